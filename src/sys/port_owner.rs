//! The process that listens on a port, as far as the system tells.

use std::fs;

use super::process::Process;

/// The process that listens on the port; the oldest one if children share the socket. `None` also
/// when the system hides its descriptors, because it belongs to another user.
#[must_use]
pub fn find_listener(port: u16) -> Option<Process> {
    let sockets: Vec<String> = ["/proc/self/net/tcp", "/proc/self/net/tcp6"]
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|table| listening_inodes(&table, port))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    Process::all()
        .filter(|process| holds_any_socket(process.pid(), &sockets))
        .min_by_key(|process| process.start_ticks().unwrap_or(u64::MAX))
}

fn holds_any_socket(pid: u32, sockets: &[String]) -> bool {
    fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|descriptor| fs::read_link(descriptor.path()).ok())
        .any(|target| {
            sockets
                .iter()
                .any(|socket| target.as_os_str() == socket.as_str())
        })
}

/// Column 2 is the local address, column 4 the state (0A is LISTEN), column 10 the inode.
fn listening_inodes(table: &str, port: u16) -> Vec<String> {
    let port_suffix = format!(":{port:04X}");
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let columns: Vec<&str> = line.split_whitespace().collect();
            let matches = columns.get(1)?.ends_with(&port_suffix) && *columns.get(3)? == "0A";
            matches.then(|| columns.get(9).map(|inode| (*inode).to_owned()))?
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listener_of_own_port_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(find_listener(port).unwrap().pid(), std::process::id());
    }
}

//! The process that listens on a port, as far as the system tells.

use std::fs;
use std::net::SocketAddr;

use super::process::Process;
use super::tcp_sockets::{TcpSocket, listeners_at_port, parse_listeners, sockets_accepting};

/// The process that listens on the port; the oldest one if children share the socket. `None` also
/// when the system hides its descriptors, because it belongs to another user.
#[must_use]
pub fn find_listener(port: u16) -> Option<Process> {
    let sockets: Vec<String> = ["/proc/self/net/tcp", "/proc/self/net/tcp6"]
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|table| parse_listeners(&table, port))
        .map(|socket| format!("socket:[{}]", socket.inode))
        .collect();
    Process::all()
        .filter(|process| holds_any_socket(process.pid(), &sockets))
        .min_by_key(|process| process.start_ticks().unwrap_or(u64::MAX))
}

/// Whether nothing but listeners of this process keeps the address from being bound, as far as this
/// user can see.
#[must_use]
pub fn is_in_use_only_by(process: &Process, address: SocketAddr) -> bool {
    // The system hides them if the program has capabilities.
    if fs::read_dir(format!("/proc/{}/fd", process.pid())).is_err() {
        return true;
    }
    let is_own = |socket: &TcpSocket| {
        holds_any_socket(process.pid(), &[format!("socket:[{}]", socket.inode)])
    };
    let listeners = listeners_at_port(address.port()).unwrap_or_default();
    let overlaps = |socket: &&TcpSocket| socket.overlaps(address);
    listeners.iter().any(is_own) && listeners.iter().filter(overlaps).all(is_own)
}

/// Whether connections to the address reach a descendant of this process, and nobody else.
#[must_use]
pub fn is_listening_below(ancestor: &Process, address: SocketAddr) -> bool {
    let Ok(sockets) = sockets_accepting(address) else {
        return false;
    };
    let descendants: Vec<_> = Process::all()
        .filter(|process| process.descends_from(ancestor))
        .collect();
    let is_held = |socket: &TcpSocket| {
        let name = [format!("socket:[{}]", socket.inode)];
        let mut descendants = descendants.iter();
        descendants.any(|process| holds_any_socket(process.pid(), &name))
    };
    !sockets.is_empty() && sockets.iter().all(is_held)
}

/// Whether a process whose descriptors this user may see has the socket with this inode open.
#[must_use]
pub fn is_visible_socket(inode: u64) -> bool {
    let socket = [format!("socket:[{inode}]")];
    Process::all().any(|process| holds_any_socket(process.pid(), &socket))
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

//! What the machine has for the daemon: its ports, its log file, and room for it.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use nix::errno::Errno;
use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access};
use tokio::net::TcpSocket;

use super::Finding;
use super::answers::LOG_CHECK;
use super::daemon::{DaemonState, Snapshot};
use crate::api::{CheckState, Status};
use crate::config::{ClientSettings, LogTarget};
use crate::instance::find_listener;
use crate::logs::{LogFile, LogFileError};

const LOG: &str = "log";
const DISK: &str = "disk";

/// Who holds the ports of units that are started when somebody connects.
const SYSTEMD: &str = "systemd (PID 1)";

/// Below which part of the file system room is scarce: 1 in so many.
const SCARCE_PART: u64 = 100;

/// What keeps a file from being made there.
pub fn obstacle(path: &Path) -> Option<String> {
    let directory = path.parent()?;
    let shown = directory.display();
    match access(directory, AccessFlags::W_OK | AccessFlags::X_OK) {
        Ok(()) => None,
        Err(Errno::ENOENT) => Some(format!("there is no directory {shown}")),
        Err(Errno::EACCES) => Some(format!("this user may not write to {shown}")),
        Err(errno) => Some(format!("{shown}: {}", io::Error::from(errno))),
    }
}

/// Whether a daemon could listen where the settings say.
pub fn ports(
    daemon: &Snapshot,
    public: Option<SocketAddr>,
    admin: Option<SocketAddr>,
) -> Vec<Finding> {
    let public = public.map(|address| port(["HOST", "PORT"], address, daemon.daemon_state, None));
    let neighbour = daemon.other_daemon.as_ref();
    let admin = admin.map(|address| {
        port(
            ["ADMIN_HOST", "ADMIN_PORT"],
            address,
            daemon.daemon_state,
            neighbour,
        )
    });
    public.into_iter().chain(admin).collect()
}

fn port(
    [host, port]: [&'static str; 2],
    address: SocketAddr,
    life: DaemonState,
    neighbour: Option<&Status>,
) -> Finding {
    let Err(error) = bind(address) else {
        return Finding::ok(port, format!("{address} is free"));
    };
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            let owner = find_listener(address.port()).map(|process| process.describe());
            let (who, next) = match (neighbour, owner) {
                (Some(status), _) => (
                    format!("the daemon of {} (PID {})", status.pid_file, status.pid),
                    format!("choose another {port}, or operate that one with its PID_FILE"),
                ),
                (None, Some(owner)) => (owner, format!("stop it, or choose another {port}")),
                (None, None) => (
                    "a process that this user may not look at".into(),
                    format!("as root, `ss -ltnp` names it; stop it, or choose another {port}"),
                ),
            };
            let seen = format!("{address} is in use by {who}");
            if life == DaemonState::Unknown {
                Finding::warning(port, seen, "it may be the daemon: fullon status")
            } else if who == SYSTEMD {
                let next = "if that is for the daemon (socket activation), systemctl start it";
                Finding::warning(port, seen, next)
            } else {
                Finding::error(port, seen, next)
            }
        }
        io::ErrorKind::PermissionDenied => Finding::error(
            port,
            format!("this user may not listen on {address}"),
            format!("choose a {port} from 1024 on, or give the program CAP_NET_BIND_SERVICE"),
        ),
        io::ErrorKind::AddrNotAvailable => Finding::error(
            host,
            format!("{} is not an address of this machine", address.ip()),
            format!("set {host} to one that `ip address` shows"),
        ),
        _ => Finding::error(
            host,
            format!("{address} cannot be listened on: {error}"),
            format!("choose another {host} or {port}"),
        ),
    }
}

/// Takes the address as a daemon would, but does not listen: so nobody connects, and a daemon that starts meanwhile gets
/// it all the same.
fn bind(address: SocketAddr) -> io::Result<()> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)
}

/// Whether the log can be written, and has room.
pub fn log(
    daemon: &Snapshot,
    locator: &ClientSettings,
    max_size: Option<ByteSize>,
) -> Vec<Finding> {
    let path = match target(daemon, locator) {
        None => return Vec::new(),
        Some(LogTarget::Stdout) if daemon.daemon_state == DaemonState::Running => {
            return vec![Finding::ok(LOG, "goes to stdout")];
        }
        Some(LogTarget::Stdout) => {
            let seen = "goes to stdout, which only `fullon run` has";
            return vec![Finding::ok(LOG, seen).with_hint("set LOG_FILE for `fullon start`")];
        }
        Some(LogTarget::File(path)) => path,
    };
    let room = disk_space(&path, max_size.unwrap_or_default());
    [Some(file(daemon, &path)), room]
        .into_iter()
        .flatten()
        .collect()
}

/// Where the log goes: as the daemon that runs says, or else as the settings say.
fn target(daemon: &Snapshot, locator: &ClientSettings) -> Option<LogTarget> {
    let of_path = |path: Option<PathBuf>| path.map_or(LogTarget::Stdout, LogTarget::File);
    if let Some(state) = &daemon.state_file {
        return Some(of_path(state.log_file.clone()));
    }
    if let Some(status) = &daemon.status {
        let path = Some(&status.log_file).filter(|path| *path != "-");
        return Some(of_path(path.map(PathBuf::from)));
    }
    locator.log.clone()
}

fn file(daemon: &Snapshot, path: &Path) -> Finding {
    let shown = path.display();
    if let Some(check) = daemon.health_check(LOG_CHECK)
        && check.state == CheckState::Down
    {
        return Finding::error(
            LOG,
            check.last_error.as_deref().unwrap_or("cannot be written"),
            "put that right (room, owner, directory): the daemon tries again by itself",
        );
    }
    if daemon.daemon_state == DaemonState::Running && !daemon.is_ours() {
        return Finding::ok(LOG, format!("{shown} (written by another user's process)"));
    }
    let (seen, next) = match LogFile::check(path) {
        Ok(is_there) => match (obstacle(path), is_there) {
            (None, true) => return Finding::ok(LOG, shown.to_string()),
            (None, false) => {
                return Finding::ok(
                    LOG,
                    format!("{shown} is not there: the first line makes it"),
                );
            }
            (Some(why), true) => {
                let seen = format!("{shown} cannot be rotated: {why}");
                let next = "let this user write there, or set LOG_FILE to a directory of its own";
                return Finding::warning(LOG, seen, next);
            }
            (Some(why), false) => (
                format!("{shown} cannot be made: {why}"),
                "make the directory, or choose another LOG_FILE",
            ),
        },
        Err(LogFileError::Unusable { reason, .. }) => (
            format!("{shown} {reason}"),
            "remove it, or choose another LOG_FILE",
        ),
        Err(LogFileError::Io { source, .. }) => (
            format!("{shown} cannot be opened for writing: {source}"),
            "let this user write it (chown, chmod), or choose another LOG_FILE",
        ),
    };
    Finding::error(LOG, seen, next)
}

/// How much room there is; `None` where the directory is missing, of which the file's finding tells.
fn disk_space(log: &Path, max_size: ByteSize) -> Option<Finding> {
    let directory = log.parent()?;
    let disk = statvfs(directory).ok()?;
    let free = disk.blocks_available() * disk.fragment_size();
    let total = disk.blocks() * disk.fragment_size();
    let seen = format!("{} free in {}", ByteSize(free), directory.display());
    // The file that is full is kept while the next one grows.
    let scarce = (total / SCARCE_PART).max(2 * max_size.as_u64());
    Some(if free == 0 {
        Finding::error(DISK, seen, "make room: lines are lost")
    } else if free < scarce {
        Finding::warning(DISK, seen, "make room, or set a smaller LOG_MAX_SIZE")
    } else {
        Finding::ok(DISK, seen)
    })
}

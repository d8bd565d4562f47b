//! Whether a daemon could listen at the configured addresses.

use std::io;
use std::net::SocketAddr;

use crate::api::DaemonStatus;
use crate::doctor::finding::Finding;
use crate::doctor::snapshot::{DaemonState, Snapshot};
use crate::sys;

/// The process that holds the ports of socket-activated units.
const SYSTEMD: &str = "systemd (PID 1)";

/// `HOST` and `PORT`, unless a daemon already listens there.
pub fn public(snapshot: &Snapshot) -> Option<Finding> {
    let address = snapshot.settings.public?;
    check_address(snapshot, ["HOST", "PORT"], address, None)
}

/// `ADMIN_HOST` and `ADMIN_PORT`, unless a daemon already listens there.
pub fn admin(snapshot: &Snapshot) -> Option<Finding> {
    let address = snapshot.settings.client.admin?;
    let other_daemon = snapshot.other_daemon.as_ref();
    check_address(
        snapshot,
        ["ADMIN_HOST", "ADMIN_PORT"],
        address,
        other_daemon,
    )
}

fn check_address(
    snapshot: &Snapshot,
    [host, port]: [&'static str; 2],
    address: SocketAddr,
    other_daemon: Option<&DaemonStatus>,
) -> Option<Finding> {
    let state = snapshot.daemon_state;
    if matches!(state, DaemonState::Running | DaemonState::Remote) {
        return None;
    }
    // Without listening: no client can connect, and a daemon that starts now still gets the address.
    let Err(error) = sys::bind(address) else {
        return Some(Finding::ok(port, format!("{address} is free")));
    };
    Some(match error.kind() {
        io::ErrorKind::AddrInUse => address_in_use(state, port, address, other_daemon),
        io::ErrorKind::PermissionDenied => Finding::error(
            port,
            format!("cannot listen on {address}: permission denied"),
            format!("choose a {port} of 1024 or higher, or grant the program CAP_NET_BIND_SERVICE"),
        ),
        io::ErrorKind::AddrNotAvailable => Finding::error(
            host,
            format!("{} is not an address of this machine", address.ip()),
            format!("set {host} to an address that `ip address` shows"),
        ),
        _ => Finding::error(
            host,
            format!("cannot listen on {address}: {error}"),
            format!("choose another {host} or {port}"),
        ),
    })
}

fn address_in_use(
    state: DaemonState,
    port: &'static str,
    address: SocketAddr,
    other_daemon: Option<&DaemonStatus>,
) -> Finding {
    let owner = sys::find_listener(address.port()).map(|process| process.describe());
    let (owner, hint) = match (other_daemon, owner) {
        (Some(status), _) => (
            format!(
                "another daemon (PID {}, PID file {})",
                status.pid, status.pid_file
            ),
            format!(
                "choose another {port}, or control that daemon with --pid-file {}",
                status.pid_file
            ),
        ),
        (None, Some(owner)) => (
            owner,
            format!("stop that process, or choose another {port}"),
        ),
        (None, None) => (
            "a process that this user cannot inspect".into(),
            format!("`sudo ss -ltnp` shows the process; stop it, or choose another {port}"),
        ),
    };
    let message = format!("{address} is in use by {owner}");
    if state == DaemonState::Unknown {
        Finding::warning(port, message, "it may be the daemon: run `fullon status`")
    } else if owner == SYSTEMD {
        let hint = "if a socket unit listens there for the daemon, start its service with `systemctl start`";
        Finding::warning(port, message, hint)
    } else {
        Finding::error(port, message, hint)
    }
}

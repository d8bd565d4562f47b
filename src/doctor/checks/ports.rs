//! Whether a daemon could listen at the configured addresses.

use std::io;
use std::net::SocketAddr;

use crate::config::{ephemeral_port_warning, user_name};
use crate::doctor::finding::Finding;
use crate::doctor::snapshot::{DaemonState, RestartSettings, Snapshot};
use crate::instance::{EndingConnection, SharedAdminPort, held_pid_file};
use crate::sys;

/// The process that holds the ports of socket-activated units.
const SYSTEMD: &str = "systemd (PID 1)";
const SOCKET_UNIT_HINT: &str =
    "if a socket unit listens there for the daemon, start its service with `systemctl start`";
const ROOT: u32 = 0;
const ADMIN_PORT: &str = "ADMIN_PORT";

/// `HOST` and `PORT`. A daemon that listens there already may not get the port again.
pub fn public(snapshot: &Snapshot) -> Option<Finding> {
    let address = snapshot.settings.public?;
    check_address(snapshot, ["HOST", "PORT"], address)
}

/// `ADMIN_HOST` and `ADMIN_PORT`, in the same way.
pub fn admin(snapshot: &Snapshot) -> Option<Finding> {
    let address = snapshot.settings.client.admin?;
    // A listener of another user at the address itself has a finding of its own.
    let listener = user_at(address);
    let state = snapshot.daemon_state;
    let has_daemon = || matches!(state, DaemonState::Running | DaemonState::Remote);
    let shared = SharedAdminPort::find(address, has_daemon);
    match shared.filter(|shared| Some(shared.user()) != listener) {
        Some(shared) => Some(Finding::error(
            ADMIN_PORT,
            shared.problem(),
            shared.next_step(),
        )),
        None => check_address(snapshot, ["ADMIN_HOST", ADMIN_PORT], address),
    }
}

fn check_address(
    snapshot: &Snapshot,
    [host, port]: [&'static str; 2],
    address: SocketAddr,
) -> Option<Finding> {
    let state = snapshot.daemon_state;
    match state {
        DaemonState::Running => return check_port_of_daemon(snapshot, port),
        DaemonState::Remote => return None,
        DaemonState::NotRunning | DaemonState::Unknown => {}
    }
    // Without listening: no client can connect, and a daemon that starts now still gets the address.
    let Err(error) = sys::bind(address) else {
        let free = format!("{address} is free");
        return Some(match ephemeral_port_warning(port, address.port()) {
            Some(warning) => {
                let message = format!("{free}, but {}", warning.message);
                Finding::warning(port, message, warning.next_step)
            }
            None => Finding::ok(port, free),
        });
    };
    Some(match error.kind() {
        io::ErrorKind::AddrInUse => address_in_use(state, port, address),
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

/// The port of the running daemon, unless its settings leave the choice to the system.
fn check_port_of_daemon(snapshot: &Snapshot, setting: &'static str) -> Option<Finding> {
    let state = snapshot.state_file.as_deref()?;
    let sources = match &snapshot.restart {
        Some(RestartSettings::Loaded { sources, .. }) => sources,
        // Its own settings are not known.
        _ if snapshot.unlocked_process.is_some() => return None,
        _ => snapshot.sources,
    };
    if sources.get(setting).is_some_and(|(value, _)| value == "0") {
        return None;
    }
    let url = if setting == ADMIN_PORT {
        &state.admin
    } else {
        &state.server
    };
    let (_, port) = url.rsplit_once(':')?;
    let warning = ephemeral_port_warning(setting, port.parse().ok()?)?;
    Some(Finding::warning(
        setting,
        warning.message,
        warning.next_step,
    ))
}

fn address_in_use(state: DaemonState, port: &'static str, address: SocketAddr) -> Finding {
    if let Some(connection) = EndingConnection::find(address) {
        return Finding::error(
            port,
            format!("cannot listen on {address}: {}", connection.problem()),
            format!("{}, or choose another {port}", connection.next_step()),
        );
    }
    let process = sys::find_listener(address.port());
    let pid_file = process.as_ref().and_then(held_pid_file);
    let (is_hidden, user) = (process.is_none(), user_at(address));
    let (owner, hint) = match (process, pid_file) {
        (Some(process), Some(pid_file)) => (
            format!(
                "another daemon (PID {}, PID file {})",
                process.pid(),
                pid_file.display()
            ),
            format!(
                "if you mean that daemon, add --pid-file {} to each command; or else choose another {port}",
                pid_file.display()
            ),
        ),
        (Some(process), None) => (
            process.describe(),
            format!("stop that process, or choose another {port}"),
        ),
        (None, _) => (
            format!(
                "a program of {}, which this user cannot inspect",
                user.map_or("another user".into(), user_name)
            ),
            format!("`sudo ss -ltnp` shows the process; stop it, or choose another {port}"),
        ),
    };
    let message = format!("{address} is in use by {owner}");
    if state == DaemonState::Unknown {
        Finding::warning(port, message, "it may be the daemon: run `fullon status`")
    } else if owner == SYSTEMD {
        Finding::warning(port, message, SOCKET_UNIT_HINT)
    } else if is_hidden && user == Some(ROOT) {
        let hint = format!("{SOCKET_UNIT_HINT}; or else {hint}");
        Finding::warning(port, message, hint)
    } else {
        Finding::error(port, message, hint)
    }
}

/// The user that listens at the address.
fn user_at(address: SocketAddr) -> Option<u32> {
    let sockets = sys::sockets_accepting(address).ok()?;
    sockets.first().map(|socket| socket.uid)
}

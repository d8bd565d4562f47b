//! systemd: state notifications (`sd_notify(3)`), the watchdog (`sd_watchdog_enabled(3)`) and
//! passed sockets (`sd_listen_fds(3)`). Does nothing when systemd did not start this process.

use std::io;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::{Command, Stdio};
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;

use crate::server::{SelfCheck, Shutdown};

/// Watchdog notifications per watchdog timeout.
const PINGS_PER_TIMEOUT: u32 = 3;
/// Time after the drain to close connections by force and to write the last log lines.
const SHUTDOWN_MARGIN: Duration = Duration::from_secs(10);

/// Whether a service manager wants notifications, among them the PID of the main process.
pub fn has_notify_socket() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// Sends the states in one message.
pub fn notify(states: &[NotifyState]) {
    if let Err(error) = send(states) {
        tracing::warn!(%error, "cannot notify systemd");
    }
}

/// Sends the states to the socket `NOTIFY_SOCKET`. `sd_notify::notify` supports only paths, but a
/// name that begins with `@` is in the abstract namespace (`unix(7)`), as with some container
/// engines.
fn send(states: &[NotifyState]) -> io::Result<()> {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
        return Ok(());
    };
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(&name)?,
    };
    let lines: Vec<String> = states.iter().map(ToString::to_string).collect();
    let message = lines.join("\n");
    UnixDatagram::unbound()?.send_to_addr(message.as_bytes(), &address)?;
    Ok(())
}

/// Reports that a restart begins, which may take `timeout`.
pub fn notify_restarting(timeout: Duration) {
    notify_reloading();
    notify(&[extend_timeout(timeout)]);
}

/// Reports that a reload or a restart begins. [`NotifyState::Ready`] reports its end.
pub fn notify_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "cannot notify systemd"),
    }
}

/// Reports that the start may take `timeout`, which may be longer than `TimeoutStartSec=`.
pub fn notify_starting(timeout: Duration) {
    notify(&[NotifyState::Status("starting"), extend_timeout(timeout)]);
}

/// Reports that this process drains, and extends `TimeoutStopSec=` if `timeout` is longer.
pub fn notify_stopping(timeout: Duration) {
    notify(&[
        NotifyState::Stopping,
        NotifyState::Status("draining"),
        extend_timeout(timeout + SHUTDOWN_MARGIN),
    ]);
}

fn extend_timeout(timeout: Duration) -> NotifyState<'static> {
    NotifyState::ExtendTimeoutUsec(u32::try_from(timeout.as_micros()).unwrap_or(u32::MAX))
}

/// The sockets of a `.socket` unit, with their names.
pub fn passed_sockets() -> io::Result<Vec<(String, TcpListener)>> {
    let mut sockets = ListenFd::from_env();
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut passed = Vec::new();
    for index in 0..sockets.len() {
        let name = names.next().unwrap_or_default();
        if let Some(listener) = sockets.take_tcp_listener(index)? {
            passed.push((name.to_owned(), listener));
        }
    }
    Ok(passed)
}

/// Lets a child take the sockets that were passed to this process.
pub fn pass_sockets_to(child: &mut Command) {
    let is_for_us =
        std::env::var("LISTEN_PID").is_ok_and(|pid| pid == std::process::id().to_string());
    for name in ["LISTEN_FDS", "LISTEN_FDNAMES"] {
        if let Some(value) = std::env::var_os(name).filter(|_| is_for_us) {
            child.env(name, value);
        }
    }
}

/// Notifies the watchdog while both servers answer, until the shutdown starts. Returns at once when
/// no watchdog is configured.
pub async fn run_watchdog(self_check: &SelfCheck, shutdown: &Shutdown) {
    if let Some(timeout) = sd_notify::watchdog_enabled().filter(|timeout| !timeout.is_zero()) {
        tokio::select! {
            () = send_pings(self_check, timeout / PINGS_PER_TIMEOUT) => {}
            () = shutdown.started() => {}
        }
    }
}

async fn send_pings(self_check: &SelfCheck, interval: Duration) {
    loop {
        match tokio::time::timeout(interval, self_check.run()).await {
            Ok(Ok(())) => {
                notify(&[NotifyState::Watchdog]);
                tokio::time::sleep(interval).await;
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "self-check failed; the systemd watchdog is not notified");
                tokio::time::sleep(interval).await;
            }
            Err(_) => {
                tracing::error!(
                    ?interval,
                    "self-check timed out; the systemd watchdog is not notified"
                );
            }
        }
    }
}

/// Runs a successor as a child and waits for it. Returns its exit code.
///
/// systemd waits for the exit of a main process, and lets it drain, only if the process was a child
/// of systemd's own when it became the main process. The old process still drains at that time, so
/// it cannot be the parent. This shim is, until it is killed; then systemd adopts the successor.
///
/// # Errors
///
/// The command cannot be run.
pub fn run_systemd_shim(mut command: Command) -> io::Result<u8> {
    let status = command.stdin(Stdio::inherit()).status()?;
    Ok(status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(1))
}

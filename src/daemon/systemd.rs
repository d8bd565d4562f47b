//! What systemd is told (`sd_notify(3)`), asks for (`sd_watchdog_enabled(3)`) and passes (`sd_listen_fds(3)`). Without it
//! nothing of this does anything.

use std::io;
use std::process::Command;
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;

use super::sockets::PassedSocket;
use crate::server::{SelfCheck, Shutdown};

/// Signs of life in the time after which systemd misses one.
const PINGS_PER_TIMEOUT: u32 = 3;
/// How long it may take to cut off what has not drained, and to write the last lines of the log.
const SHUTDOWN_MARGIN: Duration = Duration::from_secs(10);

/// Whether somebody wants to be told who the main process is.
pub fn has_notify_socket() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// Tells the states, in one message.
pub fn notify(states: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd could not be told");
    }
}

/// Says that the settings, or the whole process, are being replaced. [`NotifyState::Ready`] says that this is over.
pub fn notify_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "systemd could not be told"),
    }
}

/// Says that this process drains, for so long at most, whatever `TimeoutStopSec=` is.
pub fn notify_stopping(timeout: Duration) {
    let timeout = (timeout + SHUTDOWN_MARGIN).as_micros();
    notify(&[
        NotifyState::Stopping,
        NotifyState::Status("draining"),
        NotifyState::ExtendTimeoutUsec(u32::try_from(timeout).unwrap_or(u32::MAX)),
    ]);
}

/// Has a child take the sockets that were passed to this process.
pub fn pass_sockets_to(child: &mut Command) {
    let is_meant =
        std::env::var("LISTEN_PID").is_ok_and(|pid| pid == std::process::id().to_string());
    for name in ["LISTEN_FDS", "LISTEN_FDNAMES"] {
        if let Some(value) = std::env::var_os(name).filter(|_| is_meant) {
            child.env(name, value);
        }
    }
}

/// The sockets that a `.socket` unit listens on.
pub fn passed_sockets() -> io::Result<Vec<PassedSocket>> {
    let mut sockets = ListenFd::from_env();
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut passed = Vec::new();
    for index in 0..sockets.len() {
        let name = names.next().unwrap_or_default();
        if let Some(listener) = sockets.take_tcp_listener(index)? {
            passed.push(PassedSocket::by_name(name, listener));
        }
    }
    Ok(passed)
}

/// Gives signs of life for as long as both servers answer, if they are wanted, until the shutdown begins.
pub async fn run_watchdog(probe: &SelfCheck, shutdown: &Shutdown) {
    if let Some(patience) = sd_notify::watchdog_enabled().filter(|patience| !patience.is_zero()) {
        tokio::select! {
            () = send_pings(probe, patience / PINGS_PER_TIMEOUT) => {}
            () = shutdown.started() => {}
        }
    }
}

async fn send_pings(probe: &SelfCheck, interval: Duration) {
    loop {
        match tokio::time::timeout(interval, probe.run()).await {
            Ok(Ok(())) => {
                notify(&[NotifyState::Watchdog]);
                tokio::time::sleep(interval).await;
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "a server of this process does not answer; systemd is given no sign of life");
                tokio::time::sleep(interval).await;
            }
            Err(_) => {
                tracing::error!(
                    ?interval,
                    "a server of this process does not answer in time; systemd is given no sign of life"
                );
            }
        }
    }
}

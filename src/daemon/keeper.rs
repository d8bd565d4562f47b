//! Stands in for a daemon that runs in the foreground. Whoever ran `fullon run` and is not systemd waits for the process it
//! started, so that one stays when a successor takes over: it passes signals on, collects the dead, and exits as the last
//! daemon did. As the first process of a container it does so from the start, because that one also has to collect
//! processes that it never started.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

use super::signals::Signals;
use super::systemd;
use crate::instance::{LockHolder, PidFileStatus, Process, inspect_pid_file};

/// Makes this process the parent of whatever its successors leave behind.
///
/// # Errors
///
/// The system refused.
pub fn become_subreaper() -> io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(
        rustix::process::getpid(),
    ))?)
}

/// Whether this is the first process of a container.
#[must_use]
pub fn is_init() -> bool {
    std::process::id() == 1
}

/// Runs the daemon as a child, and stands in for it. Returns what to exit with.
///
/// # Errors
///
/// The command cannot be run, or the system refused signal handlers.
pub fn run_supervised(mut command: Command, pid_file: &Path) -> io::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    systemd::pass_sockets_to(&mut command);
    runtime.block_on(async {
        let signals = Signals::install()?;
        // Signals of the terminal come to this process alone, which passes them on.
        let child = command.process_group(0).spawn()?;
        supervise(signals, child.id(), pid_file).await
    })
}

/// Stands in for the daemon `daemon`, a child, and for those that take its place. Returns what to exit with.
pub(super) async fn supervise(
    mut signals: Signals,
    mut daemon: u32,
    pid_file: &Path,
) -> io::Result<u8> {
    let mut died = signal(SignalKind::child())?;
    loop {
        if let Some(status) = reap_children(daemon) {
            match inspect_pid_file(pid_file) {
                Ok(PidFileStatus::Held(LockHolder::Known(next))) if is_descendant(&next) => {
                    daemon = next.pid();
                }
                _ => return Ok(status),
            }
        }
        tokio::select! {
            _ = died.recv() => {}
            asked = signals.next() => {
                // The one before it may end first, when the PID file tells of nobody any more.
                daemon = forward_signal(asked.to_signal(), daemon, pid_file);
            }
        }
    }
}

/// Sends the signal to the daemon that holds the PID file, or to `daemon` while it starts. Returns which of both is the daemon.
pub(super) fn forward_signal(signal: Signal, daemon: u32, pid_file: &Path) -> u32 {
    let holder = match inspect_pid_file(pid_file) {
        Ok(PidFileStatus::Held(LockHolder::Known(process))) if is_descendant(&process) => {
            Some(process)
        }
        // A child that nobody has collected keeps its number. One that starts has only the signals that end it.
        _ if matches!(signal, Signal::TERM | Signal::INT) => Process::open(daemon),
        _ => None,
    };
    holder.map_or(daemon, |process| {
        // It may be gone; then it is collected next.
        let _ = process.send_signal(signal);
        process.pid()
    })
}

/// Whether it descends from this process: one that took over moments ago is still the child of the one before it.
fn is_descendant(process: &Process) -> bool {
    let mut pid = process.pid();
    while pid > 1 && pid != std::process::id() {
        let parent = Process::open(pid).and_then(|process| process.parent_pid());
        pid = parent.unwrap_or_default();
    }
    pid == std::process::id()
}

/// Collects all that died; what to exit with if `daemon` is among them.
fn reap_children(daemon: u32) -> Option<u8> {
    let mut ended = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(status @ (WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _))) => {
                if is(pid, daemon) {
                    ended = Some(exit_code(status));
                }
            }
            Ok(WaitStatus::StillAlive) => return ended,
            Ok(_) | Err(Errno::EINTR) => {}
            // No child is left.
            Err(_) => return ended.or(Some(1)),
        }
    }
}

fn is(pid: Pid, daemon: u32) -> bool {
    u32::try_from(pid.as_raw()).is_ok_and(|pid| pid == daemon)
}

/// As a shell has it: a signal is 128 and its number.
fn exit_code(status: WaitStatus) -> u8 {
    let code = match status {
        WaitStatus::Exited(_, code) => code,
        WaitStatus::Signaled(_, signal, _) => 128 + signal as i32,
        _ => 1,
    };
    u8::try_from(code).unwrap_or(1)
}

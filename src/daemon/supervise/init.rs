//! Supervises a daemon in the foreground. The parent of `fullon run`, unless it is systemd, waits
//! for the process that it started. So that process stays when a successor takes its place: it
//! forwards signals, reaps children, and exits with the exit code of the last daemon. As the first
//! process of a container it supervises from the start, because it also has to reap processes that
//! it never started.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

use super::systemd;
use crate::daemon::signals::SignalHandlers;
use crate::instance::{LockHolder, PidFileStatus, inspect_pid_file};
use crate::sys::Process;

/// Makes this process the parent of orphaned descendants, as a successor's successor is.
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

/// Runs the daemon as a child and supervises it. Returns the exit code of the last daemon.
///
/// # Errors
///
/// The command cannot be run, or the signal handlers cannot be installed.
pub fn run_supervised(mut command: Command, pid_file: &Path) -> io::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    systemd::pass_sockets_to(&mut command);
    runtime.block_on(async {
        let signals = SignalHandlers::install()?;
        // In another process group, so that signals of the terminal reach only this process, which
        // forwards them.
        let child = command.process_group(0).spawn()?;
        supervise(signals, child.id(), pid_file).await
    })
}

/// Supervises the child `daemon` and its successors. Returns the exit code of the last one.
pub async fn supervise(
    mut signals: SignalHandlers,
    mut daemon: u32,
    pid_file: &Path,
) -> io::Result<u8> {
    let mut child_exited = signal(SignalKind::child())?;
    loop {
        if let Some(exit_code) = reap_children(daemon) {
            match find_daemon(pid_file) {
                Some(next) => daemon = next.pid(),
                None => return Ok(exit_code),
            }
        }
        tokio::select! {
            _ = child_exited.recv() => {}
            action = signals.next() => {
                // The receiver may exit after the daemon before it, when nothing holds the PID file
                // any more. Its exit code is the one to return.
                daemon = forward_signal(action.to_signal(), daemon, pid_file);
            }
        }
    }
}

/// Sends the signal to the daemon that holds the PID file, or to `daemon` while it starts. Returns
/// the PID of the receiver, which is the daemon.
pub fn forward_signal(signal: Signal, daemon: u32, pid_file: &Path) -> u32 {
    let receiver = find_daemon(pid_file).or_else(|| {
        // The PID of a child cannot be reused before it is reaped. A starting daemon gets only the
        // signals that end it.
        matches!(signal, Signal::TERM | Signal::INT).then(|| Process::open(daemon))?
    });
    receiver.map_or(daemon, |process| {
        // If it has exited, it is reaped next.
        let _ = process.send_signal(signal);
        process.pid()
    })
}

/// The daemon that holds the PID file, unless another process started it.
fn find_daemon(pid_file: &Path) -> Option<Process> {
    match inspect_pid_file(pid_file) {
        // A successor that took over moments ago is still the child of the old process.
        Ok(PidFileStatus::Held(LockHolder::Known(process))) => {
            let this_process = Process::open(std::process::id())?;
            Some(process).filter(|process| process.descends_from(&this_process))
        }
        _ => None,
    }
}

/// Reaps all exited children. Returns the exit code of `daemon` if it is among them.
fn reap_children(daemon: u32) -> Option<u8> {
    let mut exit_code = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(status @ (WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _))) => {
                if u32::try_from(pid.as_raw()) == Ok(daemon) {
                    exit_code = Some(shell_exit_code(status));
                }
            }
            Ok(WaitStatus::StillAlive) => return exit_code,
            Ok(_) | Err(Errno::EINTR) => {}
            // No child is left.
            Err(_) => return exit_code.or(Some(1)),
        }
    }
}

/// The exit code that a shell reports: 128 plus the number of the signal that ended the process.
fn shell_exit_code(status: WaitStatus) -> u8 {
    let code = match status {
        WaitStatus::Exited(_, code) => code,
        WaitStatus::Signaled(_, signal, _) => 128 + signal as i32,
        _ => 1,
    };
    u8::try_from(code).unwrap_or(1)
}

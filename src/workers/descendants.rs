//! Ends everything below a process that adopts orphans.

use std::fs;
use std::io;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::sys::Process;

/// How long to wait for a killed child before the next look at the others.
const PAUSE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 10_000_000,
};
/// How often to try to kill children that all belong to another user.
const MAX_REFUSALS: usize = 100;

/// Kills all descendants of this process, which must adopt orphans (`PR_SET_CHILD_SUBREAPER`), and
/// reaps them. `signals` is readable when a child has exited.
///
/// It kills only children: their PIDs stay theirs until this process reaps them. The children of a
/// killed child are its own children next.
pub fn kill_descendants(signals: &SignalFd) {
    let mut refusals = 0;
    while refusals < MAX_REFUSALS {
        while let Ok(Some(_)) = signals.read_signal() {}
        let killed = children().map(|children| {
            let killed = children.into_iter().map(|pid| kill(pid, Signal::SIGKILL));
            killed.fold((0, 0), |(killed, refused), result| match result {
                Err(Errno::EPERM) => (killed, refused + 1),
                _ => (killed + 1, refused),
            })
        });
        if matches!(killed, Ok((0, 1..))) {
            refusals += 1;
        }
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => break,
                Ok(_) | Err(Errno::EINTR) => {}
                // None is left.
                Err(_) => return,
            }
        }
        let _ = poll(&mut [PollFd::new(signals, PollFlags::IN)], Some(&PAUSE));
    }
}

/// The children of this process, which has one thread.
fn children() -> io::Result<Vec<Pid>> {
    match fs::read_to_string("/proc/thread-self/children") {
        Ok(pids) => Ok(pids
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .map(Pid::from_raw)
            .collect()),
        // The kernel was built without it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let this = std::process::id();
            Ok(Process::all()
                .filter(|process| process.parent_pid() == Some(this))
                .map(|process| Pid::from_raw(process.pid().cast_signed()))
                .collect())
        }
        Err(error) => Err(error),
    }
}

//! Signals to processes, and daemons in the foreground.

use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{ChildGuard, Home, eventually, spawn};

/// Sends a signal to a process that is known to run.
pub fn send_signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
}

/// Starts `fullon run`, and waits until the daemon serves.
pub fn run_foreground(home: &Home) -> ChildGuard {
    let child = spawn(home.fullon(["run"]).stdout(Stdio::null()));
    eventually("the daemon serves", || {
        home.run(["status"]).stdout.contains("Status:    Running\n")
    });
    child
}

//! Signals to processes, and daemons in the foreground.

use std::fs;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{ChildGuard, Home, eventually, spawn};

/// Sends a signal to a process that is known to run. Returns only once a suspended process is.
pub fn send_signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
    if signal == Signal::SIGSTOP {
        // A thread that runs at that moment may still serve a request.
        eventually("all threads are suspended", || {
            let mut threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
            threads.all(|thread| {
                let status = fs::read_to_string(thread.unwrap().path().join("status"));
                status.is_ok_and(|status| status.contains("\nState:\tT"))
            })
        });
    }
}

/// Starts `fullon run`, and waits until the daemon serves.
pub fn run_foreground(home: &Home) -> ChildGuard {
    let child = spawn(home.fullon(["run"]).stdout(Stdio::null()));
    eventually("the daemon serves", || {
        home.run(["status"]).stdout.contains("Status:    Running\n")
    });
    child
}

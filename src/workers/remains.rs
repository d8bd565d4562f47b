//! Finds and kills processes whose guard cannot end them any more.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::mark::Mark;
use crate::sys::Process;

/// How long to try. A process in an uninterruptible wait does not end.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait for killed processes before the next look at the others.
const PAUSE: Duration = Duration::from_millis(50);

/// Kills what a killed guard has left: processes with its mark, and those of its session. The guard
/// is not reaped yet, so the number of its session is no other's.
pub fn kill_remains_of(mark: &Mark, guard: &Process) -> usize {
    kill_remains(|process| {
        process.session() == Some(guard.pid()) || Mark::of_worker(process).as_ref() == Some(mark)
    })
}

/// Kills the processes, and everything below them, until none is left. Returns how many there were.
pub fn kill_remains(is_one: impl Fn(&Process) -> bool) -> usize {
    let deadline = Instant::now() + TIMEOUT;
    let mut killed = BTreeSet::new();
    loop {
        let remains = find_remains(&is_one);
        if remains.is_empty() || Instant::now() > deadline {
            return killed.len();
        }
        for process in &remains {
            // It may have exited already.
            let _ = process.kill();
            killed.insert(process.pid());
        }
        for process in &remains {
            let _ = process.wait_for_exit(PAUSE);
        }
    }
}

fn find_remains(is_one: &impl Fn(&Process) -> bool) -> Vec<Process> {
    let this = std::process::id();
    let (mut found, mut others): (Vec<_>, Vec<_>) = Process::all()
        .filter(|process| process.pid() != this && !process.has_exited())
        .partition(is_one);
    // A descendant may have cleared its environment.
    loop {
        let is_below = |process: &Process| {
            let parent = process.parent_pid();
            found
                .iter()
                .any(|it| Some(it.pid()) == parent && !it.has_exited())
        };
        let (below, rest): (Vec<_>, Vec<_>) = others.into_iter().partition(is_below);
        if below.is_empty() {
            return found;
        }
        found.extend(below);
        others = rest;
    }
}

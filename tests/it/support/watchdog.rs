//! Ends tests that hang. It reports the test and kills the processes of its home, so that the test
//! stops waiting and fails.

use std::collections::HashMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::processes::processes_in_home;

/// Longer than the slowest test on the slowest machine.
pub const TEST_LIMIT: Duration = Duration::from_mins(8);
/// Time for a test to fail after its processes were killed. Then the whole run ends.
const GRACE: Duration = Duration::from_mins(1);
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

struct Watched {
    test: String,
    deadline: Instant,
    is_ended: bool,
}

static WATCHED: LazyLock<Mutex<HashMap<PathBuf, Watched>>> = LazyLock::new(|| {
    thread::spawn(|| {
        loop {
            thread::sleep(CHECK_INTERVAL);
            check();
        }
    });
    Mutex::default()
});

/// Sets the time limit of the current test, from now.
pub fn set_limit(home: &Path, limit: Duration) {
    let watched = Watched {
        test: thread::current().name().unwrap_or("a test").to_owned(),
        deadline: Instant::now() + limit,
        is_ended: false,
    };
    let mut all = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
    all.insert(home.to_owned(), watched);
}

pub fn remove(home: &Path) {
    let mut all = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
    all.remove(home);
}

fn check() {
    let mut all = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
    let now = Instant::now();
    for (home, watched) in all.iter_mut().filter(|(_, one)| now >= one.deadline) {
        if watched.is_ended {
            report(&format!("{}: does not end; the run ends", watched.test));
            std::process::abort();
        }
        kill_processes(home, &watched.test);
        watched.is_ended = true;
        watched.deadline = now + GRACE;
    }
}

/// Kills the processes of the home.
fn kill_processes(home: &Path, test: &str) {
    let processes = processes_in_home(home);
    report(&format!(
        "{test}: takes too long; its {} processes are killed",
        processes.len()
    ));
    for process in processes {
        let command = fs::read(format!("/proc/{}/cmdline", process.pid())).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        report(&format!("  {} {command}", process.pid()));
        let _ = process.kill();
    }
}

/// Writes directly, because the test harness holds the output until the test ends.
fn report(text: &str) {
    let _ = writeln!(std::io::stderr(), "WATCHDOG {text}");
}

#[test]
fn hanging_test_is_ended() {
    let home = super::Home::started();
    let logs = super::LogFollower::start(&home, &[]);
    set_limit(home.path(), Duration::ZERO);
    let (_, outcome) = logs.finish();
    assert_ne!(outcome.code, 0, "{outcome:#?}");
    home.wait_until_empty();
}

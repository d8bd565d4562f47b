//! No test waits for ever: who takes too long is named, and what runs in its home is ended, so that whatever it waits
//! for comes to its end and it fails.

use std::collections::HashMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::processes::processes_in_home;

/// More than the slowest test takes on the slowest machine.
pub const TEST_LIMIT: Duration = Duration::from_mins(8);
/// How long a test has to fail once its processes were ended; then the whole run ends.
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

/// From now on the test that runs here may take so long with this home.
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

/// Kills what runs in the home.
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

/// Past the test harness, which keeps the output until a test has ended.
fn report(text: &str) {
    let _ = writeln!(std::io::stderr(), "WATCHDOG {text}");
}

#[test]
fn whoever_waits_too_long_sees_the_end_of_what_it_waits_for() {
    let home = super::Home::started();
    let logs = super::LogFollower::start(&home, &[]);
    set_limit(home.path(), Duration::ZERO);
    let (_, outcome) = logs.finish();
    assert_ne!(outcome.code, 0, "{outcome:#?}");
    home.wait_until_empty();
}

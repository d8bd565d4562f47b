//! The system clock jumps forward and back, as after a correction or when a virtual machine
//! resumes. File times stay those of the real clock.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::sys::signal::Signal;

use crate::support::jwt::SECRET;
use crate::support::{
    Connection, DEADLINE, FollowedRequests, Home, Load, LoadProfile, TestSession, child_processes,
    eventually, lock_file, prerequisite_available, send_signal,
};

const DAY: i64 = 24 * 60 * 60;
const KEY: &str = "an obviously made-up secret of the tests";
/// How far, in seconds, a time may be from the expected one on a slow machine.
const TOLERANCE: i64 = 120;

/// The clock of all processes in a home.
struct Clock {
    file: PathBuf,
}

impl Clock {
    /// `None` if libfaketime is not installed.
    fn new(home: &mut Home, test: &str) -> Option<Self> {
        let library = faketime_library();
        if !prerequisite_available(
            test,
            "libfaketime (scripts/install-test-tools.sh)",
            library.is_some(),
        ) {
            return None;
        }
        let clock = Self {
            file: home.path().join("clock"),
        };
        clock.set_offset(0);
        home.set("LD_PRELOAD", library?.to_str().unwrap());
        home.set("FAKETIME_TIMESTAMP_FILE", clock.file.to_str().unwrap());
        home.set("FAKETIME_NO_CACHE", "1");
        home.set("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        home.set("NO_FAKE_STAT", "1");
        Some(clock)
    }

    /// Sets the offset from the real clock, in seconds.
    fn set_offset(&self, offset: i64) {
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{offset:+}\n")).unwrap();
        fs::rename(new, &self.file).unwrap();
    }
}

fn faketime_library() -> Option<PathBuf> {
    let name = Path::new("faketime/libfaketimeMT.so.1");
    let directories = fs::read_dir("/usr/lib").ok()?.flatten();
    let mut paths = directories.map(|entry| entry.path().join(name));
    paths.find(|path| path.is_file())
}

#[track_caller]
fn assert_time(time: Timestamp, offset: i64) {
    let difference = time.as_second() - offset - Timestamp::now().as_second();
    assert!(
        difference.abs() < TOLERANCE,
        "{time} is off by {difference} s"
    );
}

fn status_of(home: &Home, token: &str) -> u16 {
    home.call_admin_as(token, "GET", "/admin/status").status
}

/// Signs in with all scopes.
fn sign_in(home: &Home) -> TestSession {
    home.sign_in("admin:read admin:logs admin:control")
}

/// Checks that a new log line has the current time.
fn assert_log_time(home: &Home, offset: i64) {
    let name = format!("moved-{}", uuid::Uuid::new_v4());
    home.log_request(&name);
    let line = || {
        let log = home.log_with_rotated();
        let line = log.lines().find(|line| line.contains(&name));
        line.map(str::to_owned)
    };
    eventually("the line is logged", || line().is_some());
    let line = line().unwrap();
    let (time, _) = line.split_once(' ').unwrap();
    assert_time(time.parse().unwrap(), offset);
}

/// Uptime in seconds, which must not depend on the clock.
fn uptime(home: &Home) -> f64 {
    let status = home.call_admin("GET", "/admin/status").json();
    status["uptime_seconds"].as_f64().unwrap()
}

#[test]
fn service_and_log_continue_through_clock_jumps() {
    let mut home = Home::new();
    home.set("LOG_MAX_SIZE", "64KiB");
    home.set("LOG_KEEP", "1000");
    let Some(clock) = Clock::new(&mut home, "a clock that jumps") else {
        return;
    };
    home.run(["start"]).succeeds();
    let clients = LoadProfile {
        per_request: 1,
        persistent: 2,
        idle: 1,
    };
    let load = Load::start(&home.public_address(), &clients);
    let requests = FollowedRequests::start(&home);
    let token = home.token("admin:read");

    let mut generation = 1;
    for (offset, next) in [(0, DAY), (DAY, -DAY), (-DAY, 2 * DAY), (2 * DAY, 0), (0, 0)] {
        clock.set_offset(offset);
        assert_log_time(&home, offset);
        load.wait_for_more(100);
        // The token lives for an hour and has no `nbf` claim.
        let expected = if offset > 0 { 401 } else { 200 };
        assert_eq!(status_of(&home, &token), expected, "at {offset}");
        home.run(["status"]).succeeds();
        home.run(["reload"]).succeeds();
        assert_log_time(&home, offset);

        // The next jump happens in the middle of a restart.
        let old = home.daemon().unwrap();
        thread::scope(|scope| {
            let restart = scope.spawn(|| home.restart());
            eventually("the new process is starting", || {
                old.has_exited() || !child_processes(old.pid()).is_empty()
            });
            clock.set_offset(next);
            restart.join().unwrap();
        });
        generation += 1;
        let status = home.call_admin("GET", "/admin/status").json();
        assert_eq!(status["generation"], generation);
        assert!((0.0..60.0).contains(&status["uptime_seconds"].as_f64().unwrap()));
        assert_log_time(&home, next);
        load.wait_for_more(100);
    }
    load.finish().assert_flawless();
    requests.finish();
    home.wait_until_empty();
}

#[test]
fn idle_daemon_ignores_clock_jumps_but_reports_the_time() {
    let mut home = Home::new();
    let Some(clock) = Clock::new(&mut home, "an idle daemon whose clock jumps") else {
        return;
    };
    home.run(["start"]).succeeds();
    let daemon = home.daemon().unwrap();
    let cpu = || {
        let status = home.call_admin("GET", "/admin/status").json();
        status["process"]["cpu_seconds"].as_f64().unwrap()
    };
    let mut follower = Connection::open(&home.admin_address());
    let bearer = home.bearer();
    let headers = [("Authorization", bearer.as_str())];
    follower.send("GET", "/admin/logs/stream?lines=0", &headers, "");
    assert_eq!(follower.read_head().status, 200);
    for offset in [DAY, -DAY] {
        let (uptime_before, start) = (uptime(&home), Instant::now());
        clock.set_offset(offset);
        let used = cpu();
        // A keep-alive comment is sent every 15 seconds of monotonic time.
        eventually("the stream sends a keep-alive", || {
            follower.read_line() == ": keep-alive"
        });
        let (used, elapsed) = (cpu() - used, start.elapsed());
        // A busy loop would use a whole processor, or what it gets of it.
        assert!(
            used * 4.0 < elapsed.as_secs_f64(),
            "{used} s of processor time in {elapsed:?}"
        );
        let uptime_passed = uptime(&home) - uptime_before;
        assert!(
            (0.0..elapsed.as_secs_f64() + 10.0).contains(&uptime_passed),
            "{uptime_passed}"
        );
        assert_log_time(&home, offset);
        let started_at = home.call_admin("GET", "/admin/status").json()["started_at"].clone();
        assert_time(started_at.as_str().unwrap().parse().unwrap(), 0);
    }
    assert_eq!(home.daemon().unwrap().pid(), daemon.pid());
}

/// The machine of the command has another clock than the daemon's.
#[test]
fn doctor_names_the_clocks_if_its_token_is_not_valid_now() {
    let mut home = Home::new();
    let Some(clock) = Clock::new(&mut home, "two machines with different clocks") else {
        return;
    };
    home.set("JWT_SECRET_KEY", KEY);
    home.run(["start"]).succeeds();
    let url = format!("http://{}", home.admin_address());
    let mut other = Home::new();
    other.set("JWT_SECRET_KEY", KEY);
    let doctor = || other.run(["--admin-url", &url, "doctor"]).stdout;
    assert!(!doctor().contains("the clocks"));
    for (offset, reason) in [
        (DAY, "has expired"),
        (-2 * 366 * DAY, "expires more than 366 days from now"),
    ] {
        clock.set_offset(offset);
        let found = doctor();
        assert!(
            found.contains("the clocks of the two machines differ"),
            "{found}"
        );
        assert!(found.contains(reason), "{found}");
    }
}

#[test]
fn tokens_and_sessions_expire_by_current_clock() {
    let mut home = Home::new();
    let Some(clock) = Clock::new(&mut home, "tokens and a clock that jumps") else {
        return;
    };
    home.run(["start"]).succeeds();
    let token = |ttl| {
        let token = home.run(["token", "--ttl", ttl]).succeeds();
        token.stdout.trim().to_owned()
    };
    let host = home.admin_address();
    let session = |session: &TestSession| session.request(&host, "GET", "/admin/status").status;
    let (hour, week, hour_session) = (token("1h"), token("7d"), sign_in(&home));
    for (offset, hour_status, session_status) in [
        (0, 200, 200),
        (DAY, 401, 401),
        (-DAY, 200, 200),
        (8 * DAY, 401, 401),
        (0, 200, 200),
    ] {
        clock.set_offset(offset);
        assert_eq!(status_of(&home, &hour), hour_status, "at {offset}");
        let week_status = if offset > 7 * DAY { 401 } else { 200 };
        assert_eq!(status_of(&home, &week), week_status, "at {offset}");
        assert_eq!(session(&hour_session), session_status, "at {offset}");
        // New credentials are valid at any clock time.
        assert_eq!(status_of(&home, &token("1m")), 200, "at {offset}");
        assert_eq!(session(&sign_in(&home)), 200, "at {offset}");
    }
}

#[test]
fn signed_out_session_stays_ended_after_clock_jumps() {
    let mut home = Home::new();
    let Some(clock) = Clock::new(&mut home, "signing out and a clock that jumps") else {
        return;
    };
    home.run(["start"]).succeeds();
    let host = home.admin_address();
    let sign_out = |session: &TestSession| {
        let answer = session.request(&host, "DELETE", "/admin/session");
        assert_eq!(answer.status, 204, "{answer:#?}");
    };
    let ended = sign_in(&home);
    sign_out(&ended);
    for offset in [0, DAY, -DAY, 0] {
        clock.set_offset(offset);
        sign_out(&sign_in(&home));
        let answer = ended.request(&host, "GET", "/admin/status");
        assert_eq!(answer.status, 401, "at {offset}");
    }
}

/// Stops a daemon with a request in flight and moves the clock meanwhile. Returns how long the stop
/// took.
fn stop_during_jump(offset: i64) -> Option<Duration> {
    let mut home = Home::new();
    home.set("SHUTDOWN_TIMEOUT", "3s");
    let clock = Clock::new(&mut home, "a stop and a clock that jumps")?;
    home.run(["start"]).succeeds();
    let daemon = home.daemon().unwrap();
    let _request = home.unfinished_request();
    let start = Instant::now();
    thread::scope(|scope| {
        let stop = scope.spawn(|| home.run(["stop"]));
        eventually("the daemon stops", || home.log().contains(" stopping "));
        clock.set_offset(offset);
        stop.join().unwrap().succeeds();
    });
    let duration = start.elapsed();
    assert!(daemon.wait_for_exit(DEADLINE));
    Some(duration)
}

#[test]
fn shutdown_timeout_ignores_clock_jumps() {
    for offset in [DAY, -2 * DAY] {
        let Some(duration) = stop_during_jump(offset) else {
            return;
        };
        let timeout = Duration::from_secs(2);
        assert!(
            (timeout..DEADLINE).contains(&duration),
            "{duration:?} at {offset}"
        );
    }
}

/// The daemon is behind a tunnel on a machine whose clock is behind: the deadline that it reports
/// has already passed here.
#[test]
fn stop_waits_for_daemon_whose_clock_is_behind() {
    let mut home = Home::new();
    home.set("SHUTDOWN_TIMEOUT", "9s");
    home.set("JWT_SECRET_KEY", SECRET);
    let Some(clock) = Clock::new(&mut home, "a stop and two clocks") else {
        return;
    };
    clock.set_offset(-DAY);
    home.run(["start"]).succeeds();
    let _request = home.unfinished_request();
    let url = format!("http://{}", home.admin_address());
    let mut remote_home = Home::new();
    remote_home.set("JWT_SECRET_KEY", SECRET);
    remote_home.run(["--admin-url", &url, "stop"]).succeeds();
    home.wait_until_empty();
}

#[test]
fn revoked_tokens_stay_revoked_after_clock_jumps() {
    let mut home = Home::new();
    home.set("JWT_SECRET_KEY", SECRET);
    let Some(clock) = Clock::new(&mut home, "revoked tokens and a clock that jumps") else {
        return;
    };
    home.run(["start"]).succeeds();
    let token = |ttl| {
        let token = home.run(["token", "--ttl", ttl]).succeeds();
        token.stdout.trim().to_owned()
    };
    let (hour, week) = (token("1h"), token("7d"));
    for token in [&hour, &week] {
        home.run(["token", "--revoke", token]).succeeds();
    }
    for offset in [-DAY, DAY, 2 * DAY, -DAY, 0] {
        clock.set_offset(offset);
        // A change writes the list again.
        home.run(["token", "--revoke", "another"]).succeeds();
        for revoked in [&hour, &week] {
            assert_eq!(status_of(&home, revoked), 401, "at {offset}");
        }
        assert_eq!(status_of(&home, &token("1m")), 200, "at {offset}");
    }
    let week = token("7d");
    home.run(["token", "--revoke-all"]).succeeds();
    assert_eq!(status_of(&home, &token("7d")), 200);
    for offset in [-DAY, DAY, -DAY] {
        clock.set_offset(offset);
        assert_eq!(status_of(&home, &week), 401, "at {offset}");
        home.restart();
        assert_eq!(status_of(&home, &week), 401, "at {offset}");
    }
    // New tokens would be older than the revocation.
    home.run(["status"])
        .succeeds()
        .stdout_contains(&["Warning:", "the clock was set back"]);
    clock.set_offset(0);
    assert_eq!(status_of(&home, &week), 401);
    assert_eq!(status_of(&home, &token("7d")), 200);
}

/// Lines of the log with this text.
fn count(home: &Home, text: &str) -> usize {
    home.log()
        .lines()
        .filter(|line| line.contains(text))
        .count()
}

/// Whether a connection to the admin API has received a request that nobody has read.
fn has_unread_request(home: &Home) -> bool {
    let address: SocketAddr = home.admin_address().parse().unwrap();
    let local = format!(":{:04X}", address.port());
    let table = fs::read_to_string("/proc/self/net/tcp").unwrap();
    table.lines().skip(1).any(|line| {
        let columns: Vec<_> = line.split_whitespace().collect();
        let is_established = columns[3] == "01";
        is_established && columns[1].ends_with(&local) && !columns[4].ends_with(":00000000")
    })
}

/// The token of the request, which ends when the command gives up, is valid again then.
#[test]
fn request_that_was_given_up_replaces_no_key_after_the_clock_was_set_back() {
    let test = "a key and a clock that is set back";
    // Before the daemon has read the request, and while it waits for the list.
    for is_waiting in [false, true] {
        let mut home = Home::new();
        let Some(clock) = Clock::new(&mut home, test) else {
            return;
        };
        home.run(["start"]).succeeds();
        let pid = home.daemon().unwrap().pid();
        let lock = home.path().join(".fullon_master_api.revoked.lock");
        let lock = is_waiting.then(|| lock_file(&lock));
        if !is_waiting {
            send_signal(pid, Signal::SIGSTOP);
        }
        thread::scope(|scope| {
            let command = scope.spawn(|| home.run(["token", "--revoke-all"]));
            if is_waiting {
                let accepted = "action=\"revoke_tokens\" outcome=\"accepted\"";
                eventually("the daemon waits", || count(&home, accepted) == 1);
                send_signal(pid, Signal::SIGSTOP);
            } else {
                eventually("the request is sent", || has_unread_request(&home));
            }
            clock.set_offset(-DAY);
            drop(lock);
            command
                .join()
                .unwrap()
                .succeeds()
                .stdout_contains(&["Signing key: replaced"]);
        });
        let key = home.key();
        send_signal(pid, Signal::SIGCONT);
        let answered = "path=\"/admin/tokens/revoke\"";
        eventually("the daemon has answered", || count(&home, answered) == 1);
        assert_eq!(home.key().expose(), key.expose(), "{is_waiting}");
        home.run(["audit", "--verify"]).succeeds();
    }
}

//! Everything at once for a long time: nothing fails, and no resource use grows.
//! `make soak` runs it for minutes; `make test` only checks that the test works.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::Hasher as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::jwt::{self, SECRET};
use crate::support::{
    Connection, DEADLINE, HEAVY, Home, Load, LoadProfile, LogFollower, NumberedRequests,
    ResourceSamples, SetOnDrop, TestSession, eventually, request, request_numbers, scale,
};

const LAST_MARK: &str = "the-last";
const SCOPES: &str = "admin:read admin:logs admin:control";

/// Repeats the work until it is over. Returns how often it ran.
fn repeat<'scope>(
    scope: &'scope Scope<'scope, '_>,
    is_over: &'scope AtomicBool,
    pace: Duration,
    mut work: impl FnMut() + Send + 'scope,
) -> ScopedJoinHandle<'scope, u64> {
    scope.spawn(move || {
        let mut count = 0;
        while !is_over.load(Ordering::Relaxed) {
            work();
            count += 1;
            thread::park_timeout(pace);
        }
        count
    })
}

/// Stops the daemon if the test fails, which ends all threads that wait for its log.
struct StopOnFailure<'a>(&'a Home);

impl Drop for StopOnFailure<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.run(["stop"]);
        }
    }
}

/// Count and hash of all log lines, in order, and their marks.
#[derive(Default)]
struct Lines {
    count: u64,
    hash: DefaultHasher,
    marks: Vec<usize>,
}

impl Lines {
    fn add(&mut self, line: &str) {
        self.count += 1;
        self.hash.write(line.as_bytes());
        self.hash.write_u8(b'\n');
        self.marks.extend(request_numbers(std::iter::once(line)));
    }

    /// The result up to the last line.
    fn finish(mut self) -> (u64, u64, Vec<usize>) {
        self.marks.sort_unstable();
        (self.count, self.hash.finish(), self.marks)
    }
}

/// Follows the log over the API like a browser: resumes with the last event id after an `end`
/// event.
fn follow_api(host: &str, streams: &AtomicU64) -> Lines {
    let bearer = format!("Bearer {}", jwt::token(SCOPES));
    let mut lines = Lines::default();
    let mut last_id = String::new();
    loop {
        streams.fetch_add(1, Ordering::Relaxed);
        let mut stream = Connection::open(host);
        let headers = [
            ("Authorization", bearer.as_str()),
            ("Last-Event-ID", &last_id),
        ];
        stream.send("GET", "/admin/logs/stream?lines=10000", &headers, "");
        assert_eq!(stream.read_head().status, 200);
        let mut event = String::new();
        loop {
            let line = stream.read_line();
            match line.split_once(": ") {
                Some(("event", name)) => name.clone_into(&mut event),
                Some(("id", id)) => id.clone_into(&mut last_id),
                Some(("data", data)) if event == "log" => {
                    let entry: Value = serde_json::from_str(data).unwrap();
                    let line = entry["line"].as_str().unwrap();
                    lines.add(line);
                    if line.contains(LAST_MARK) {
                        return lines;
                    }
                }
                Some(("data", _)) => {
                    assert_eq!(event, "end", "after {} lines", lines.count);
                    break;
                }
                _ => {}
            }
        }
    }
}

/// The same with `fullon logs`.
fn follow_command(mut logs: LogFollower) -> Lines {
    let mut lines = Lines::default();
    for line in logs.read_until(LAST_MARK) {
        lines.add(line.trim_end_matches('\n'));
    }
    lines
}

/// Reads a little of everything and disconnects.
fn read_some(host: &str) {
    let bearer = format!("Bearer {}", jwt::token(SCOPES));
    let headers = [("Authorization", bearer.as_str())];
    let mut stream = Connection::open(host);
    stream.send("GET", "/admin/logs/stream?lines=10", &headers, "");
    assert_eq!(stream.read_head().status, 200);
    while !stream.read_line().starts_with("data: ") {}
    let text = [headers[0], ("Accept", "text/plain")];
    for (path, headers) in [
        ("/admin/logs?lines=100", &headers[..]),
        ("/admin/logs?lines=50&contains=mark-0&since=1m", &headers),
        ("/admin/logs?lines=500", &text),
        ("/admin/status", &headers),
        ("/admin/config", &headers),
        ("/admin/openapi.json", &[]),
    ] {
        let answer = request(host, "GET", path, headers, "");
        assert_eq!(answer.status, 200, "{path}: {answer:#?}");
    }
}

/// Signs in, requests the status, and signs out.
fn sign_in_and_out(host: &str) {
    let bearer = format!("Bearer {}", jwt::token(SCOPES));
    let headers = [("Authorization", bearer.as_str())];
    let answer = request(host, "POST", "/admin/session", &headers, "");
    if answer.status == 409 {
        // During a restart.
        return;
    }
    let session = TestSession::from(&answer);
    let answer = session.request(host, "GET", "/admin/status");
    assert_eq!(answer.status, 200, "{answer:#?}");
    // During a restart, sign-out may be refused with the advice to retry.
    let sign_out = || session.request(host, "DELETE", "/admin/session").status;
    eventually("the session is ended", || match sign_out() {
        204 => true,
        status => {
            assert_eq!(status, 409);
            false
        }
    });
}

/// Sends invalid tokens and invalid requests.
fn send_invalid(host: &str) {
    let foreign_token = jwt::sign(
        "the key of another daemon, as long as ours",
        jwt::HEADER,
        jwt::claims(SCOPES).to_string(),
    );
    let without_scope = jwt::token("none");
    for (token, method, path, status) in [
        ("nonsense", "GET", "/admin/status", 401),
        (&foreign_token, "POST", "/admin/stop", 401),
        (&without_scope, "POST", "/admin/restart", 403),
        (&without_scope, "GET", "/admin/nothing", 404),
        (&without_scope, "PUT", "/admin/logs", 405),
    ] {
        let bearer = format!("Bearer {token}");
        let headers = [("Authorization", bearer.as_str())];
        let answer = request(host, method, path, &headers, "");
        answer.assert_problem(status, "");
    }
}

/// Reloads and restarts the daemon while the others work.
struct Operator<'a> {
    home: &'a Home,
    keep: u64,
    /// Pause between two operations.
    interval: Duration,
}

impl Operator<'_> {
    /// Reloads with a changed setting.
    fn reload(&mut self) {
        self.keep = 1999 - self.keep;
        set_keep(self.home, self.keep);
        let answer = self.home.call_admin("POST", "/admin/reload");
        assert_eq!(answer.status, 200, "{answer:#?}");
        thread::park_timeout(self.interval);
    }

    fn one_process(&mut self, length: Duration, all_is_well: impl Fn()) -> ResourceSamples {
        let mut samples = ResourceSamples::start("one process", length);
        while !samples.is_complete() {
            samples.sample(self.home);
            self.reload();
            all_is_well();
        }
        samples
    }

    fn many_processes(&mut self, length: Duration, all_is_well: impl Fn()) -> ResourceSamples {
        let mut samples =
            ResourceSamples::start("each process in the second half of its life", length);
        let life = length / 15;
        while !samples.is_complete() {
            self.home.restart();
            let begun = Instant::now();
            while begun.elapsed() < life {
                self.reload();
                all_is_well();
                if begun.elapsed() > life / 2 {
                    samples.sample(self.home);
                }
            }
        }
        samples
    }
}

fn set_keep(home: &Home, keep: u64) {
    fs::write(home.path().join(".env"), format!("LOG_KEEP={keep}\n")).unwrap();
}

/// All log lines, from the oldest to the last mark.
fn logged_lines(home: &Home) -> Lines {
    let mut lines = Lines::default();
    let rotated = (1..).map(|number| home.path().join(format!("fullon.log.{number}")));
    let mut files: Vec<_> = rotated.take_while(|file| file.exists()).collect();
    files.reverse();
    files.push(home.log_file());
    for file in files {
        for line in fs::read_to_string(file).unwrap().lines() {
            lines.add(line);
            if line.contains(LAST_MARK) {
                return lines;
            }
        }
    }
    panic!("the last mark is in no file");
}

#[test]
fn nothing_fails_and_no_resource_use_grows() {
    let _permit = HEAVY.enter();
    // One process in the first half, many restarts in the second.
    let half = scale::soak_time() / 2;
    let mut home = Home::new();
    home.extend_time_limit(half * 2);
    home.set("JWT_SECRET_KEY", SECRET);
    // Nothing is removed even at 13,000 lines per second.
    home.set("LOG_MAX_SIZE", "4MiB");
    home.set("FAILED_TOKENS_PER_MINUTE", "1000000");
    set_keep(&home, 1000);
    home.run(["start"]).succeeds();
    let (public, admin) = (home.public_address(), home.admin_address());
    let clients = LoadProfile {
        per_request: 2,
        persistent: 1,
        idle: 8,
    };
    let load = Load::start_with_limit(half * 2 + 2 * DEADLINE, &public, &clients);
    let requests = NumberedRequests::start(public.clone());
    let logs = LogFollower::start(&home, &["--lines", "10000"]);
    let (is_over, streams) = (AtomicBool::new(false), AtomicU64::new(0));
    let (samples, sent, work, followed) = thread::scope(|scope| {
        let _stop = StopOnFailure(&home);
        let end = SetOnDrop(&is_over);
        let followers: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| follow_api(&admin, &streams)))
            .collect();
        let by_command = scope.spawn(|| follow_command(logs));
        let pace = Duration::from_millis(100);
        let workers = [
            ("looks", repeat(scope, &is_over, pace, || read_some(&admin))),
            (
                "visits",
                repeat(scope, &is_over, pace, || sign_in_and_out(&admin)),
            ),
            (
                "refusals",
                repeat(scope, &is_over, pace, || send_invalid(&admin)),
            ),
        ];
        let all_is_well = || {
            let is_finished = |(_, worker): &(_, ScopedJoinHandle<u64>)| worker.is_finished();
            assert!(!workers.iter().any(is_finished), "a worker stopped");
        };
        let mut operator = Operator {
            home: &home,
            keep: 1000,
            interval: half / 300,
        };
        let samples = [
            operator.one_process(half, all_is_well),
            operator.many_processes(half, all_is_well),
        ];
        drop(end);
        let work = workers.map(|(name, worker)| (name, worker.join().unwrap()));
        load.wait_for_more(100);
        let sent = requests.finish();
        home.log_request(LAST_MARK);
        let mut followed: Vec<_> = followers
            .into_iter()
            .map(|follower| follower.join().unwrap().finish())
            .collect();
        followed.push(by_command.join().unwrap().finish());
        (samples, sent, work, followed)
    });
    let report = load.finish();
    for samples in &samples {
        println!("{samples}");
    }
    let (answered, streams) = (report.answered, streams.load(Ordering::Relaxed));
    println!("{answered} requests, {streams} streams, {sent} marks, {work:?}");
    home.run(["stop"]).succeeds();
    home.wait_until_empty();
    report.assert_flawless();
    let expected = logged_lines(&home).finish();
    println!(
        "{} lines in {} files",
        expected.0,
        fs::read_dir(home.path()).unwrap().count()
    );
    let marks = &expected.2;
    assert!(
        marks.iter().copied().eq(1..=sent),
        "{} marks in the files",
        marks.len()
    );
    for followed in followed {
        assert!(
            followed == expected,
            "{} lines of {}",
            followed.0,
            expected.0
        );
    }
    let log = home.log_with_rotated();
    let bad = |line: &&str| line.contains(" ERROR ") || line.contains("panicked");
    assert_eq!(log.lines().find(bad), None);
    for samples in samples {
        samples.assert_no_growth();
    }
}

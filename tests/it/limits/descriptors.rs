//! Attacks with many connections, and running out of file descriptors.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Instant;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};

use super::metric;
use crate::support::{DEADLINE, Home, Outcome, eventually, request};

/// Attacking clients per port.
const ATTACKERS: usize = 1000;

/// Raises the file limit of this process, for the connections of the attack.
pub fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, all).unwrap();
}

/// Clients that send half of their request headers.
fn start_attack(host: &str) -> Vec<TcpStream> {
    let begin = |_| {
        let mut stream = TcpStream::connect(host).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        // The connection may be closed already.
        let _ = stream.write_all(b"GET /health HTTP/1.1\r\nHost: a\r\nX-");
        stream
    };
    (0..ATTACKERS).map(begin).collect()
}

/// Waits until the other side closes. False if it does not.
fn wait_for_close(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => true,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    }
}

/// Path and headers of a cheap request to a port.
fn cheap_request<'a>(
    server: &str,
    bearer: &'a str,
) -> (&'static str, Vec<(&'static str, &'a str)>) {
    match server {
        "public" => ("/health", vec![]),
        _ => ("/admin/status", vec![("Authorization", bearer)]),
    }
}

/// These ports respond to a hundred requests.
#[track_caller]
fn assert_responsive(home: &Home, servers: &[&str]) {
    let bearer = home.bearer();
    for _ in 0..100 / servers.len() {
        for server in servers {
            let (path, headers) = cheap_request(server, &bearer);
            let answer = request(&address_of(home, server), "GET", path, &headers, "");
            assert_eq!(answer.status, 200);
        }
    }
}

fn address_of(home: &Home, server: &str) -> String {
    match server {
        "public" => home.public_address(),
        _ => home.admin_address(),
    }
}

/// A thousand clients per port never finish their request. Others are served, and the thousand are
/// closed in time.
fn assert_withstands_attack(mut home: Home, start: impl Fn(&Home)) {
    raise_file_limit();
    home.set("HEADER_TIMEOUT", "4s");
    start(&home);
    let mut crowd = [
        start_attack(&home.public_address()),
        start_attack(&home.admin_address()),
    ]
    .concat_all();
    assert_responsive(&home, &["public", "admin"]);
    home.run(["status"]).succeeds();
    assert!(crowd.iter_mut().all(wait_for_close));
    eventually("only our own connection is left", || {
        home.call_admin("GET", "/admin/status").json()["http"]["connections"] == 1
    });
    let log = home.log();
    assert!(!log.contains("cannot accept connections"), "{log}");
    home.run(["stop"]).succeeds();
}

trait ConcatAll<T> {
    fn concat_all(self) -> Vec<T>;
}

impl<T> ConcatAll<T> for [Vec<T>; 2] {
    fn concat_all(self) -> Vec<T> {
        self.into_iter().flatten().collect()
    }
}

#[test]
fn thousand_unfinished_requests_per_port_block_nobody() {
    assert_withstands_attack(Home::new(), |home| {
        home.run(["start"]).succeeds();
    });
}

/// Starts a daemon with a limit of 128 open files.
fn start_with_few_descriptors(home: &Home) {
    let mut shell = home.command("bash");
    shell.args([
        "-c",
        "ulimit -n 128 && exec \"$0\" start",
        env!("CARGO_BIN_EXE_fullon"),
    ]);
    Outcome::run(&mut shell).succeeds();
}

#[test]
fn unfinished_requests_block_nobody_with_128_descriptors() {
    assert_withstands_attack(Home::new(), start_with_few_descriptors);
}

#[test]
fn full_port_does_not_affect_other_port() {
    raise_file_limit();
    for (full, other) in [("public", "admin"), ("admin", "public")] {
        let mut home = Home::new();
        home.set("HEADER_TIMEOUT", "1m");
        start_with_few_descriptors(&home);
        let crowd = start_attack(&address_of(&home, full));
        let figure = |name: &str| metric(&home, &format!("{name}{{server=\"{full}\""));
        let is_full = || {
            // Several are evicted at once for new ones.
            let limit = figure("fullon_http_connections_limit");
            figure("fullon_http_connections") >= limit - limit / 8
        };
        let evicted =
            format!("fullon_http_limit_hits_total{{server=\"{full}\",limit=\"evicted\"}}");
        assert!(metric(&home, &evicted) > 0, "{full}");
        assert!(is_full(), "{full}");
        assert_responsive(&home, &[other]);
        assert!(is_full(), "{full}");
        drop(crowd);
    }
}

#[test]
fn start_fails_with_too_few_descriptors() {
    let home = Home::new();
    let mut shell = home.command("bash");
    shell.args([
        "-c",
        "ulimit -n 50 && exec \"$0\" start",
        env!("CARGO_BIN_EXE_fullon"),
    ]);
    Outcome::run(&mut shell).exits(1).stderr_contains(&[
        "limit of open files is 50",
        "ulimit -n",
        "LimitNOFILE",
    ]);
    assert!(!home.pid_file().exists());
}

#[test]
fn accept_backs_off_without_descriptors_and_recovers() {
    let home = Home::started();
    let pid = home.state().pid;
    let (public, admin) = (home.public_address(), home.admin_address());
    let process = Pid::from_raw(pid.cast_signed());
    let limit = |current| {
        let limit = Rlimit {
            current: Some(current),
            maximum: Some(4096),
        };
        prlimit(process, Resource::Nofile, limit).unwrap();
    };
    limit(5);
    let start = Instant::now();
    let waiting: Vec<_> = [&public, &admin]
        .into_iter()
        .flat_map(|host| (0..20).map(move |_| TcpStream::connect(host).unwrap()))
        .collect();
    eventually("the line is logged", || {
        home.log().matches("cannot accept connections").count() == 2
    });
    limit(1024);
    assert_eq!(request(&public, "GET", "/health", &[], "").status, 200);
    // One attempt in each 100 ms, however long this took. A busy loop would fail thousands of times.
    let errors = metric(&home, "fullon_http_accept_errors_total{server=\"public\"}");
    let attempts = u64::try_from(start.elapsed().as_millis() / 100).unwrap() + 1;
    assert!((1..=attempts).contains(&errors), "{errors} of {attempts}");
    assert_eq!(home.log().matches("cannot accept connections").count(), 2);
    drop(waiting);
}

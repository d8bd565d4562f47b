//! Limits on time, size, connections and failed tokens. Other clients are served meanwhile.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};

use crate::support::{Connection, DEADLINE, Home, Outcome, eventually, request};

/// Attacking clients per port.
const ATTACKERS: usize = 1000;

/// Raises the file limit of this process, for the connections of the attack.
fn raise_file_limit() {
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

fn metric(home: &Home, name: &str) -> u64 {
    let text = home.call_admin("GET", "/admin/metrics").body;
    let line = text.lines().find(|line| line.starts_with(name));
    let line = line.unwrap_or_else(|| panic!("no {name} in {text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
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
    assert!(!log.contains("no connection can be accepted"), "{log}");
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
            // Several are evicted at once to make room.
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
        "50 files open",
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
        home.log().matches("no connection can be accepted").count() == 2
    });
    limit(1024);
    assert_eq!(request(&public, "GET", "/health", &[], "").status, 200);
    // One attempt in each 100 ms, however long this took. A busy loop would fail thousands of times.
    let errors = metric(&home, "fullon_http_accept_errors_total{server=\"public\"}");
    let attempts = u64::try_from(start.elapsed().as_millis() / 100).unwrap() + 1;
    assert!((1..=attempts).contains(&errors), "{errors} of {attempts}");
    assert_eq!(
        home.log().matches("no connection can be accepted").count(),
        2
    );
    drop(waiting);
}

#[test]
fn idle_connection_is_evicted_for_new_one() {
    let mut home = Home::new();
    home.set("MAX_CONNECTIONS", "8");
    home.run(["start"]).succeeds();
    let host = home.public_address();
    let mut idle: Vec<_> = (0..8)
        .map(|_| {
            let mut connection = Connection::open(&host);
            connection.send("GET", "/health", &[], "");
            assert_eq!(connection.read_response("GET").status, 200);
            connection
        })
        .collect();
    // The connection that has been idle longest is evicted, and the others stay.
    let mut new = Connection::open(&host);
    new.send("GET", "/", &[], "");
    assert_eq!(new.read_response("GET").status, 200);
    assert_eq!(idle.remove(0).read_to_end(), "");
    for connection in &mut idle {
        connection.send("GET", "/health", &[], "");
        assert_eq!(connection.read_response("GET").status, 200);
    }
    let evicted = "fullon_http_limit_hits_total{server=\"public\",limit=\"evicted\"}";
    assert_eq!(metric(&home, evicted), 1);
    assert_eq!(
        metric(&home, "fullon_http_connections_limit{server=\"public\"}"),
        8
    );
}

#[test]
fn new_connection_gets_503_when_all_are_busy() {
    let mut home = Home::new();
    home.set("ADMIN_MAX_CONNECTIONS", "3");
    home.run(["start"]).succeeds();
    let bearer = home.bearer();
    let headers = [("Authorization", bearer.as_str())];
    let followers = start_followers(&home, &bearer, 2);
    let mut sender = Connection::open(&home.admin_address());
    let head = format!(
        "PUT /admin/log-level HTTP/1.1\r\nHost: localhost\r\nAuthorization: {bearer}\r\n\
        Content-Type: application/json\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n"
    );
    sender.send_bytes(head.as_bytes());
    assert_eq!(sender.read_head().status, 100);
    // A client that keeps sending is busy.
    sender.send_bytes(b" ");
    let mut one_more = Connection::open(&home.admin_address());
    let answer = one_more.read_response("GET");
    answer.assert_problem(503, "no room for another connection");
    assert_eq!(answer.header("retry-after"), Some("1"));
    drop(followers);
    eventually("there is room again", || {
        let mut connection = Connection::open(&home.admin_address());
        connection.send("GET", "/admin/status", &headers, "");
        connection.read_response("GET").status == 200
    });
    let hits = |limit: &str| {
        let name = format!("fullon_http_limit_hits_total{{server=\"admin\",limit=\"{limit}\"}}");
        metric(&home, &name)
    };
    assert!(hits("refused") >= 1);
}

/// Clients that follow the log.
fn start_followers(home: &Home, bearer: &str, count: usize) -> Vec<Connection> {
    let headers = [("Authorization", bearer)];
    let begin = |_| {
        let mut connection = Connection::open(&home.admin_address());
        connection.send("GET", "/admin/logs/stream?lines=0", &headers, "");
        assert_eq!(connection.read_head().status, 200);
        connection
    };
    (0..count).map(begin).collect()
}

#[test]
fn log_readers_take_at_most_three_quarters_of_admin_port() {
    let mut home = Home::new();
    home.set("ADMIN_MAX_CONNECTIONS", "8");
    home.run(["start"]).succeeds();
    let bearer = format!("Bearer {}", home.token("admin:logs"));
    let headers = [("Authorization", bearer.as_str())];
    let mut followers = start_followers(&home, &bearer, 6);
    let paths = ["/admin/logs/stream?lines=0", "/admin/logs?contains=ready"];
    for path in paths.iter().cycle().take(10) {
        let mut connection = Connection::open(&home.admin_address());
        connection.send("GET", path, &headers, "");
        let head = connection.read_head();
        assert_eq!((head.status, head.header("retry-after")), (503, Some("1")));
    }
    request(&home.admin_address(), "GET", paths[0], &headers, "")
        .assert_problem(503, "reads the log");
    // A few lines are always available.
    let answer = request(
        &home.admin_address(),
        "GET",
        "/admin/logs?lines=1",
        &headers,
        "",
    );
    assert_eq!(answer.status, 200);
    home.run(["status"]).succeeds();
    home.run(["reload"]).succeeds();
    let refused = "fullon_http_limit_hits_total{server=\"admin\",limit=\"refused\"}";
    assert_eq!(metric(&home, refused), 11);
    followers.pop();
    eventually("there is room for one more", || {
        home.log_request("written-to-all-of-them");
        let mut connection = Connection::open(&home.admin_address());
        connection.send("GET", "/admin/logs/stream?lines=0", &headers, "");
        connection.read_head().status == 200
    });
    // The followers have missed nothing, and a restart ends them.
    home.run(["restart"]).succeeds();
    for follower in &mut followers {
        assert!(follower.read_to_end().contains("restarting"));
    }
    drop(start_followers(&home, &bearer, 6));
    home.run(["stop"]).succeeds();
}

#[test]
fn unread_log_page_is_evicted_for_new_reader() {
    assert_unread_readers_are_evicted("/admin/logs?lines=1000000");
}

#[test]
fn unread_log_stream_is_evicted_for_new_reader() {
    assert_unread_readers_are_evicted("/admin/logs/stream?lines=10000");
}

/// Fills the share of log readers with clients that never read.
fn assert_unread_readers_are_evicted(path: &str) {
    let mut home = Home::new();
    home.set("ADMIN_MAX_CONNECTIONS", "8");
    home.run(["start"]).succeeds();
    let line = format!("{}\n", "x".repeat(799));
    let mut log = fs::OpenOptions::new()
        .append(true)
        .open(home.log_file())
        .unwrap();
    log.write_all(line.repeat(60_000).as_bytes()).unwrap();
    let bearer = format!("Bearer {}", home.token("admin:logs"));
    let headers = [("Authorization", bearer.as_str()), ("Accept", "text/plain")];
    let ask = || {
        let mut connection = Connection::with_small_buffer(&home.admin_address());
        connection.send("GET", path, &headers, "");
        (connection.read_head().status, connection)
    };
    let unread: Vec<_> = (0..6).map(|_| ask()).collect();
    assert!(unread.iter().all(|(status, _)| *status == 200));
    assert_eq!(ask().0, 503);
    // IDLE_TIMEOUT is longer than the patience of this test.
    eventually("there is room", || ask().0 == 200);
    // Evicting a reader does not delay other clients.
    let idle: Vec<_> = (0..8)
        .map(|_| TcpStream::connect(home.admin_address()).unwrap())
        .collect();
    home.run(["status"]).succeeds();
    drop((unread, idle));
}

#[test]
fn log_follower_stays_and_idle_connection_is_evicted() {
    let mut home = Home::new();
    home.set("ADMIN_MAX_CONNECTIONS", "3");
    home.run(["start"]).succeeds();
    let bearer = home.bearer();
    let headers = [("Authorization", bearer.as_str())];
    let ask = || {
        let mut connection = Connection::open(&home.admin_address());
        connection.send("GET", "/admin/status", &headers, "");
        assert_eq!(connection.read_response("GET").status, 200);
        connection
    };
    let mut follower = Connection::open(&home.admin_address());
    follower.send("GET", "/admin/logs/stream?lines=0", &headers, "");
    assert_eq!(follower.read_head().status, 200);
    let idle: Vec<_> = (0..6).map(|_| ask()).collect();
    home.log_request("still-followed");
    eventually("the line arrives", || {
        follower.read_line().contains("still-followed")
    });
    let evicted = "fullon_http_limit_hits_total{server=\"admin\",limit=\"evicted\"}";
    assert!(metric(&home, evicted) >= 4);
    drop(idle);
}

#[test]
fn refusal_reaches_client_that_sends_body_first() {
    let home = Home::started();
    for _ in 0..20 {
        let mut connection = Connection::open(&home.admin_address());
        let body = " ".repeat(500 * 1024);
        let head = "POST /admin/stop HTTP/1.1\r\nHost: localhost\r\nContent-Length: 512000\r\n\r\n";
        connection.send_bytes(format!("{head}{body}").as_bytes());
        connection
            .read_response("POST")
            .assert_problem(401, "Authorization");
    }
}

#[test]
fn malformed_and_oversized_requests_are_logged_problems() {
    let mut home = Home::new();
    home.set("MAX_HEADER_SIZE", "8KiB");
    home.set("MAX_BODY_SIZE", "2KiB");
    home.run(["start"]).succeeds();
    for (server, host) in [
        ("public", home.public_address()),
        ("admin", home.admin_address()),
    ] {
        let send = |text: &str| {
            let mut connection = Connection::open(&host);
            connection.send_bytes(text.as_bytes());
            let answer = connection.read_response("GET");
            assert_eq!(answer.header("connection"), Some("close"));
            assert!(answer.header("x-request-id").is_some());
            assert_eq!(connection.read_to_end(), "");
            answer
        };
        send("nonsense\r\n\r\n").assert_problem(400, "HTTP/1.1");
        send("GET /a b HTTP/1.1\r\n\r\n").assert_problem(400, "HTTP/1.1");
        send(&format!(
            "GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n",
            "x".repeat(50_000)
        ))
        .assert_problem(431, "8192 bytes");
        send(&format!(
            "GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "x".repeat(50_000)
        ))
        .assert_problem(431, "8192 bytes");
        let fields = "X: 1\r\n".repeat(200);
        send(&format!(
            "GET / HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n"
        ))
        .assert_problem(431, "100 fields");
        let body = "x".repeat(3000);
        send(&format!(
            "POST /admin/stop HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3000\r\n\r\n{body}"
        ))
        .assert_problem(413, "2048 bytes");
        for (limit, hits) in [("header_size", 3), ("body_size", 1)] {
            let name =
                format!("fullon_http_limit_hits_total{{server=\"{server}\",limit=\"{limit}\"}}");
            assert_eq!(metric(&home, &name), hits, "{name}");
        }
    }
    // A chunked body, whose length is not known in advance.
    let bearer = home.bearer();
    let mut connection = Connection::open(&home.admin_address());
    let chunk = format!("800\r\n{}\r\n", " ".repeat(2048));
    let head = format!(
        "POST /admin/stop HTTP/1.1\r\nHost: localhost\r\nAuthorization: {bearer}\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    connection.send_bytes(format!("{head}{chunk}{chunk}0\r\n\r\n").as_bytes());
    connection
        .read_response("POST")
        .assert_problem(413, "2048 bytes");
    for status in ["400", "431"] {
        assert!(
            home.log()
                .contains(&format!("method=- path=\"-\" status={status}")),
            "{}",
            home.log()
        );
    }
    home.run(["status"]).succeeds();
}

#[test]
fn unread_response_times_out() {
    let mut home = Home::new();
    home.set("IDLE_TIMEOUT", "500ms");
    home.run(["start"]).succeeds();
    // More than the socket buffers hold for a client that does not read.
    let mut connections: Vec<_> = (0..3)
        .map(|_| {
            let mut connection = Connection::open(&home.public_address());
            for _ in 0..8 {
                connection.send("GET", "/docs/swagger-ui.js", &[], "");
            }
            connection
        })
        .collect();
    eventually("the connections are closed", || {
        home.call_admin("GET", "/admin/status").json()["http"]["connections"] == 1
    });
    let timed_out = "fullon_http_limit_hits_total{server=\"public\",limit=\"idle_timeout\"}";
    assert_eq!(metric(&home, timed_out), 3);
    // Data that was sent before is still readable.
    assert_eq!(connections[0].read_head().status, 200);
}

#[test]
fn slow_reader_gets_whole_response() {
    let mut home = Home::new();
    home.set("IDLE_TIMEOUT", "2s");
    home.set("MAX_CONNECTIONS", "4");
    home.run(["start"]).succeeds();
    let path = "/docs/swagger-ui.js";
    let expected = request(&home.public_address(), "GET", path, &[], "")
        .body
        .len();
    let mut stream = TcpStream::connect(home.public_address()).unwrap();
    rustix::net::sockopt::set_socket_recv_buffer_size(&stream, 128 * 1024).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let requests = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").repeat(10);
    stream.write_all(requests.as_bytes()).unwrap();
    let mut received = 0;
    let start = Instant::now();
    let mut buffer = vec![0; 64 * 1024];
    while received < 10 * expected {
        // Other connections come and become idle: they are evicted first.
        assert_eq!(
            request(&home.public_address(), "GET", "/", &[], "").status,
            200
        );
        // Makes the reader slow.
        std::thread::sleep(Duration::from_millis(15));
        match stream.read(&mut buffer).unwrap() {
            0 => panic!("cut off after {received} bytes in {:?}", start.elapsed()),
            read => received += read,
        }
    }
    assert!(start.elapsed() > Duration::from_secs(2));
}

#[test]
fn client_that_sends_but_never_reads_is_closed() {
    let mut home = Home::new();
    home.set("IDLE_TIMEOUT", "500ms");
    home.set("HEADER_TIMEOUT", "500ms");
    home.set("MAX_CONNECTIONS", "8");
    home.run(["start"]).succeeds();
    let path = "/docs/swagger-ui.js";
    let requests = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").repeat(4);
    let last = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let junk = "x".repeat(60_000);
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let mut stream = TcpStream::connect(home.public_address()).unwrap();
            rustix::net::sockopt::set_socket_recv_buffer_size(&stream, 4096).unwrap();
            let text = format!("{requests}{last}{junk}");
            stream.write_all(text.as_bytes()).unwrap();
            stream
        })
        .collect();
    eventually("the connections are closed", || {
        home.call_admin("GET", "/admin/status").json()["http"]["connections"] == 1
    });
    assert_eq!(
        request(&home.public_address(), "GET", "/health", &[], "").status,
        200
    );
    drop(clients);
}

#[test]
fn failed_tokens_are_limited_but_valid_one_is_accepted() {
    let mut home = Home::new();
    home.set("FAILED_TOKENS_PER_MINUTE", "5");
    home.run(["start"]).succeeds();
    let status = |headers: &[(&str, &str)]| {
        request(&home.admin_address(), "GET", "/admin/status", headers, "")
    };
    let bad = [("Authorization", "Bearer nonsense")];
    for _ in 0..5 {
        status(&bad).assert_problem(401, "malformed");
    }
    let answer = status(&bad);
    answer.assert_problem(429, "wait");
    let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    let cookie = format!(
        "fullon-session-{}=nonsense",
        home.admin_address().rsplit(':').next().unwrap()
    );
    status(&[("Cookie", &cookie)]).assert_problem(429, "wait");
    // A request without a token has no failed token.
    status(&[]).assert_problem(401, "Authorization");
    let bearer = home.bearer();
    assert_eq!(status(&[("Authorization", &bearer)]).status, 200);
    home.run(["status"]).succeeds();
    home.run(["reload"]).succeeds();
    // A command whose own token is refused does not report that nothing runs.
    let mut stranger = Home::new();
    stranger.set(
        "JWT_SECRET_KEY",
        "the key of another daemon, as long as ours",
    );
    stranger.set(
        "ADMIN_PORT",
        home.admin_address().rsplit(':').next().unwrap(),
    );
    stranger
        .run(["status"])
        .exits(4)
        .stdout_contains(&["tokens of this peer"]);
    assert!(metric(&home, "fullon_admin_refused_tokens_total") >= 7);
    // Every requested change is audited, however many tokens were refused before.
    let stop = request(&home.admin_address(), "POST", "/admin/stop", &bad, "");
    stop.assert_problem(429, "wait");
    eventually("the line is logged", || {
        home.log()
            .contains("audit: action=\"stop\" outcome=\"refused\" peer=127.0.0.1")
    });
    home.run(["restart"]).succeeds();
    home.run(["stop"]).succeeds();
}

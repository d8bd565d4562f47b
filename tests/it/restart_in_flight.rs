//! Requests and connections that are open during a restart.

use std::time::{Duration, Instant};

use crate::support::{Connection, DEADLINE, Home, eventually};

/// Requests the status over a kept connection.
fn request_status(connection: &mut Connection, bearer: &str) -> crate::support::Response {
    connection.send("GET", "/admin/status", &[("Authorization", bearer)], "");
    connection.read_response("GET")
}

#[test]
fn open_requests_are_answered_by_old_process() {
    let home = Home::started();
    let (old, bearer) = (home.daemon().unwrap(), home.bearer());

    let mut partial_headers = Connection::open(&home.public_address());
    partial_headers.send_bytes(b"GET /health HTTP/1.1\r\nHo");
    let mut partial_body = Connection::open(&home.admin_address());
    let head = format!(
        "POST /admin/stop HTTP/1.1\r\nHost: localhost\r\nAuthorization: {bearer}\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{{"
    );
    partial_body.send_bytes(head.as_bytes());
    let mut kept = Connection::open(&home.admin_address());
    assert_eq!(request_status(&mut kept, &bearer).json()["pid"], old.pid());
    let mut silent = Connection::open(&home.public_address());
    eventually("all connections are open", || {
        let http = home.call_admin("GET", "/admin/status").json()["http"].clone();
        http["connections"] == 5 && http["in_flight"] == 2
    });

    let new = home.restart();
    assert_ne!(new, u64::from(old.pid()));
    assert!(!old.has_exited());
    partial_headers.send_bytes(b"st: x\r\n\r\n");
    let answer = partial_headers.read_response("GET");
    assert_eq!(answer.header("connection"), Some("close"), "{answer:#?}");
    assert_eq!(partial_headers.read_to_end(), "");

    // An unknown field gets an error response and stops nothing.
    partial_body.send_bytes(&b"\"x\":true} "[..9]);
    let answer = partial_body.read_response("POST");
    assert_eq!(
        (answer.status, answer.header("connection")),
        (400, Some("close"))
    );
    assert_eq!(partial_body.read_to_end(), "");

    let answer = request_status(&mut kept, &bearer);
    assert_eq!(
        (answer.status, answer.header("connection")),
        (200, Some("close"))
    );
    let status = answer.json();
    assert_eq!(
        (&status["pid"], &status["phase"]),
        (&old.pid().into(), &"draining".into())
    );
    assert_eq!(kept.read_to_end(), "");
    assert!(
        !old.has_exited(),
        "the old process exited before its last client"
    );

    silent.send("GET", "/health", &[], "");
    let answer = silent.read_response("GET");
    assert_eq!(answer.header("connection"), Some("close"), "{answer:#?}");
    assert_eq!(silent.read_to_end(), "");
    assert!(old.wait_for_exit(DEADLINE));
    assert_eq!(home.state().pid, u32::try_from(new).unwrap());
}

/// A replaced daemon still answers for the whole service on kept connections.
#[test]
fn kept_connection_to_old_process_still_reports_healthy() {
    let home = Home::started();
    let mut kept = Connection::open(&home.public_address());
    kept.send("GET", "/health", &[], "");
    assert_eq!(kept.read_response("GET").status, 200);
    home.restart();
    kept.send("GET", "/health", &[], "");
    let answer = kept.read_response("GET");
    assert_eq!(
        (answer.status, answer.header("connection")),
        (200, Some("close"))
    );
    assert_eq!(kept.read_to_end(), "");
}

#[test]
fn idle_connection_is_kept_until_shutdown_timeout() {
    let mut home = Home::new();
    home.set("SHUTDOWN_TIMEOUT", "1s");
    home.run(["start"]).succeeds();
    let old = home.daemon().unwrap();
    let mut kept = Connection::open(&home.public_address());
    kept.send("GET", "/health", &[], "");
    kept.read_response("GET");
    let start = Instant::now();
    home.restart();
    assert_eq!(kept.read_to_end(), "");
    let elapsed = start.elapsed();
    assert!(
        elapsed >= Duration::from_secs(1),
        "closed after {elapsed:?}"
    );
    assert!(old.wait_for_exit(Duration::from_secs(5)));
}

#[test]
fn unused_old_process_exits_at_once() {
    let mut home = Home::new();
    home.set("SHUTDOWN_TIMEOUT", "1h");
    home.run(["start"]).succeeds();
    for _ in 0..3 {
        let old = home.daemon().unwrap();
        home.restart();
        assert!(old.wait_for_exit(Duration::from_secs(2)));
    }
}

#[test]
fn log_stream_ends_with_restart_reason() {
    let home = Home::started();
    let bearer = home.bearer();
    let mut stream = Connection::open(&home.admin_address());
    let headers = [("Authorization", bearer.as_str())];
    stream.send("GET", "/admin/logs/stream?lines=1", &headers, "");
    assert_eq!(stream.read_head().status, 200);
    home.restart();
    let rest = stream.read_to_end();
    assert!(
        rest.contains("event: end\ndata: {\"reason\":\"restarting\"}\n"),
        "{rest}"
    );
}

/// Several restarts, while clients of each old process are still connected.
#[test]
fn several_old_processes_drain_at_once() {
    let mut home = Home::new();
    home.set("SHUTDOWN_TIMEOUT", "1h");
    home.run(["start"]).succeeds();
    let bearer = home.bearer();
    let mut kept = Vec::new();
    for _ in 0..5 {
        let mut connection = Connection::open(&home.admin_address());
        let pid = request_status(&mut connection, &bearer).json()["pid"].clone();
        kept.push((connection, pid));
        home.restart();
    }
    for (mut connection, pid) in kept {
        let answer = request_status(&mut connection, &bearer);
        assert_eq!(answer.header("connection"), Some("close"), "{answer:#?}");
        assert_eq!(answer.json()["pid"], pid);
        assert_eq!(connection.read_to_end(), "");
    }
    home.wait_until_only(home.state().pid);
    home.run(["stop"]).succeeds();
    home.wait_until_empty();
}

//! Requests and connections that are open when the shutdown begins.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use super::{Server, wait_until};
use crate::support::{Connection, DEADLINE, Home};

#[tokio::test]
async fn in_flight_request_finishes_and_new_ones_are_refused() {
    let server = Server::start();
    let mut connection = server.slow_request().await;
    server.shutdown.start();
    server
        .run_blocking(|host| {
            crate::support::eventually("the listener closes", || {
                TcpStream::connect(&host).is_err()
            });
        })
        .await;
    server.permits.add_permits(1);
    let answer = server
        .run_blocking(move |_| (connection.read_response("GET"), connection.read_to_end()))
        .await;
    assert_eq!((answer.0.status, answer.0.body.as_str()), (200, "done"));
    assert_eq!(answer.0.header("connection"), Some("close"));
    assert_eq!(answer.1, "");
    server.wait_for_end().await;
}

/// With one thread, the server does not run between two awaits of the test. So it has not read
/// these requests when the shutdown begins.
#[tokio::test(flavor = "current_thread")]
async fn request_sent_before_shutdown_is_answered() {
    let server = Server::start();
    // One on a connection that is not accepted yet,
    let mut fresh = TcpStream::connect(server.address).unwrap();
    fresh
        .write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    // and one on a kept idle connection.
    let mut kept = TcpStream::connect(server.address).unwrap();
    kept.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    kept.set_nonblocking(true).unwrap();
    let mut buffer = [0; 4096];
    let mut first = 0;
    wait_until(|| {
        first = kept.read(&mut buffer).unwrap_or(0);
        first > 0
    })
    .await;
    kept.set_nonblocking(false).unwrap();
    let mut second = TcpStream::connect(server.address).unwrap();
    second
        .write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    kept.write_all(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();

    server.shutdown.start();
    let texts = server
        .run_blocking(move |_| {
            [fresh, kept, second].map(|mut stream| {
                let mut text = String::new();
                stream.set_read_timeout(Some(DEADLINE)).unwrap();
                stream.read_to_string(&mut text).unwrap();
                text
            })
        })
        .await;
    assert!(texts[0].starts_with("HTTP/1.1 200"), "{texts:?}");
    assert!(
        texts[1].contains("alive") && texts[1].contains("connection: close"),
        "{texts:?}"
    );
    assert!(
        texts[2].contains("healthy") && texts[2].contains("connection: close"),
        "{texts:?}"
    );
    server.wait_for_end().await;
}

#[tokio::test]
async fn idle_and_half_sent_requests_do_not_delay_shutdown() {
    let server = Server::start();
    let connections = server
        .run_blocking(|host| {
            let mut used = Connection::open(&host);
            used.send("GET", "/health", &[], "");
            used.read_response("GET");
            let mut half = Connection::open(&host);
            half.send_bytes(b"GET /health HTTP/1.1\r\nHos");
            // A response on a later connection shows that the earlier ones were read.
            let mut later = Connection::open(&host);
            later.send("GET", "/health", &[], "");
            later.read_response("GET");
            (used, half, Connection::open(&host))
        })
        .await;
    server.shutdown.start();
    let Server { task, .. } = server;
    tokio::time::timeout(Duration::from_secs(5), task)
        .await
        .expect("the server waited for idle clients")
        .unwrap();
    drop(connections);
}

#[tokio::test]
async fn forced_shutdown_cuts_off_requests() {
    let server = Server::start();
    let connection = server.slow_request().await;
    server.shutdown.start();
    assert!(!server.task.is_finished());
    server.shutdown.force();
    server.wait_for_end().await;
    drop(connection);
}

#[test]
fn request_cut_off_by_deadline_is_logged_as_503() {
    let mut home = Home::new();
    home.set("SHUTDOWN_TIMEOUT", "0s");
    home.run(["start"]).succeeds();
    let _request = home.unfinished_request();
    home.run(["stop"]).succeeds();
    let log = home.log();
    for parts in [
        [" access: ", "path=\"/admin/stop\" status=503"],
        [
            " audit: action=\"stop\" outcome=\"refused\"",
            "status=503 reason=\"aborted: the timeout of the stop",
        ],
    ] {
        let matches = |line: &str| parts.iter().all(|word| line.contains(word));
        assert!(log.lines().any(matches), "no {parts:?} in {log}");
    }
}

#[test]
fn unread_log_stream_does_not_delay_shutdown() {
    let mut home = Home::new();
    home.set("SHUTDOWN_TIMEOUT", "1h");
    home.run(["start"]).succeeds();
    let line = "x".repeat(60_000);
    let mut log = std::fs::OpenOptions::new()
        .append(true)
        .open(home.log_file())
        .unwrap();
    for _ in 0..400 {
        writeln!(log, "{line}").unwrap();
    }
    let token = home.token("admin:logs");
    let mut follower = Connection::open(&home.admin_address());
    let header = format!("Bearer {token}");
    follower.send(
        "GET",
        "/admin/logs/stream?lines=10000",
        &[("Authorization", &header)],
        "",
    );
    assert_eq!(follower.read_head().status, 200);
    home.run(["stop"])
        .succeeds()
        .stdout_contains(&["Daemon stopped\n"]);
}

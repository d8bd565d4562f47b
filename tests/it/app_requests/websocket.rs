//! WebSocket connections: which requests get one, and how it ends.

use std::io::ErrorKind;
use std::net::Shutdown;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use fullon_master_api::proxy::Upstream;

use super::server::{Client, Server, Worker, ok};
use crate::support::eventually;

const REQUEST: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Key: abc\r\n\r\n";
const ACCEPTED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: def\r\n\r\n";

/// Both ends of a WebSocket.
fn websocket(server: &Server) -> (Client, Worker, Arc<Upstream>) {
    let (listener, upstream) = server.worker();
    let mut client = server.client();
    client.send(REQUEST);
    let mut worker = Worker::accept(&listener);
    worker.read_request().unwrap();
    worker.send(ACCEPTED);
    client.read_until("\r\n\r\n");
    (client, worker, upstream)
}

#[test]
fn websocket_passes_bytes_in_both_directions() {
    let server = Server::start();
    let (listener, upstream) = server.worker();
    let mut client = server.client();
    // Neither side waits for the other.
    client.send(&format!("{REQUEST}early"));
    let mut worker = Worker::accept(&listener);
    let request = worker.read_request().unwrap();
    assert_eq!(request.all("connection"), ["Upgrade"]);
    assert_eq!(request.all("upgrade"), ["websocket"]);
    assert_eq!(request.all("sec-websocket-key"), ["abc"]);
    worker.send(&format!("{ACCEPTED}HTTP/1.1 400 too"));
    let response = client.read_until("\r\n\r\n");
    assert!(
        response.starts_with("HTTP/1.1 101 Switching Protocols\r\n"),
        "{response}"
    );
    for header in [
        "connection: Upgrade",
        "upgrade: websocket",
        "sec-websocket-accept: def",
    ] {
        assert!(
            response.contains(&format!("\r\n{header}\r\n")),
            "{response}"
        );
    }
    assert!(!response.contains("transfer-encoding") && !response.contains("content-length"));
    assert_eq!(client.read_until("too"), "HTTP/1.1 400 too");
    assert_eq!(worker.read_until("early"), "early");
    for text in ["one", "two"] {
        client.send(text);
        assert_eq!(worker.read_until(text), text);
        worker.send(text);
        assert_eq!(client.read_until(text), text);
    }
    assert_eq!((upstream.in_flight(), upstream.streams()), (1, 1));
    server.block_on(upstream.only_streams());
    drop(client);
    worker.assert_closed();
    drop(worker);
    server.block_on(upstream.idle());
    assert_eq!(server.proxy.stats().responses().next(), Some(("1xx", 1)));
}

#[test]
fn either_side_may_close_its_direction_first() {
    let server = Server::start();
    let (mut client, mut worker, upstream) = websocket(&server);
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(worker.read_to_end(), "");
    worker.send("after the end");
    client.read_until("after the end");
    drop(worker);
    assert_eq!(client.read_to_end(), "");

    let (mut client, mut worker, other) = websocket(&server);
    worker.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.read_to_end(), "");
    client.send("after the end");
    assert_eq!(worker.read_until("end"), "after the end");
    drop(client);
    assert_eq!(worker.read_to_end(), "");
    eventually("both have ended", || {
        upstream.in_flight() + other.in_flight() == 0
    });
}

#[test]
fn half_closed_websocket_ends_once_it_is_quiet() {
    let server = Server::with(&[], |limits| {
        limits.idle_timeout = Duration::from_millis(300);
    });
    let (mut client, worker, upstream) = websocket(&server);
    drop(worker);
    assert_eq!(client.read_to_end(), "");
    // The client never closes its side.
    eventually("the tunnel has ended", || upstream.in_flight() == 0);
}

#[test]
fn quiet_websocket_outlives_the_idle_timeout() {
    let server = Server::with(&[], |limits| {
        limits.idle_timeout = Duration::from_millis(100);
        limits.header_timeout = Duration::from_millis(100);
    });
    let (mut client, mut worker, _) = websocket(&server);
    thread::sleep(Duration::from_millis(500));
    client.send("still here");
    worker.read_until("still here");
}

#[test]
fn worker_that_resets_a_websocket_ends_it() {
    let server = Server::start();
    let (mut client, worker, upstream) = websocket(&server);
    client.send("unread");
    // A close with unread input is a reset.
    eventually("the bytes have arrived", || worker.has_input());
    drop(worker);
    match client.try_read_to_end() {
        Ok(rest) => assert_eq!(rest, ""),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    eventually("the tunnel has ended", || upstream.in_flight() == 0);
}

#[test]
fn forced_shutdown_ends_websockets() {
    let server = Server::start();
    let (mut client, mut worker, _) = websocket(&server);
    server.shutdown.start();
    client.send("still here");
    worker.read_until("still here");
    server.shutdown.force();
    assert_eq!(client.read_to_end(), "");
    worker.assert_closed();
}

#[test]
fn websocket_that_begins_while_the_server_drains_is_one() {
    let server = Server::start();
    let (listener, _) = server.worker();
    let mut client = server.client();
    client.send(REQUEST);
    let mut worker = Worker::accept(&listener);
    worker.read_request().unwrap();
    server.shutdown.start();
    worker.send(ACCEPTED);
    let response = client.read_until("\r\n\r\n");
    assert!(response.contains("\r\nconnection: Upgrade"), "{response}");
    worker.send("hello");
    client.read_until("hello");
}

#[test]
fn worker_may_refuse_a_websocket() {
    let server = Server::start();
    server.responder(|_| ok("no websocket here"));
    let mut client = server.client();
    for _ in 0..2 {
        client.send(REQUEST);
        client.read_until("no websocket here");
    }
}

#[test]
fn only_a_websocket_changes_the_protocol() {
    let server = Server::start();
    server.responder(|request| {
        ok(&format!(
            "{:?}",
            (request.all("upgrade"), request.all("connection"))
        ))
    });
    for request in [
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade, HTTP2-Settings\r\nHTTP2-Settings: x\r\nUpgrade: h2c\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\nx",
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
        "GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    ] {
        let mut client = server.client();
        client.send(request);
        let response = client.read_until("([], [])");
        assert!(response.contains(" 200 OK\r\n"), "{request}: {response}");
    }
}

#[test]
fn response_must_match_the_request_for_a_websocket() {
    let server = Server::start();
    let (listener, _) = server.worker();
    for wrong in [
        "Upgrade: h2c\r\nConnection: upgrade",
        "Upgrade: websocket",
        "Connection: upgrade",
    ] {
        let mut client = server.client();
        client.send(REQUEST);
        let mut worker = Worker::accept(&listener);
        worker.read_request().unwrap();
        worker.send(&format!(
            "HTTP/1.1 101 Switching Protocols\r\n{wrong}\r\n\r\n"
        ));
        let response = client.read_until("\r\n\r\n");
        assert!(response.starts_with("HTTP/1.1 502 "), "{wrong}: {response}");
        worker.assert_closed();
    }
}

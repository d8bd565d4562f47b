//! Workers that close connections, break off, are late or are not there.

use std::io::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use super::server::{Client, Server, Worker, ok};
use crate::support::eventually;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";

fn head(client: &mut Client) -> String {
    client.read_until("\r\n\r\n")
}

/// The number of errors for each reason that occurred.
fn errors(server: &Server) -> Vec<(&'static str, u64)> {
    let errors = server.proxy.stats().errors();
    errors.filter(|(_, count)| *count > 0).collect()
}

#[test]
fn kept_connection_that_the_worker_has_closed_costs_no_request() {
    for request in [GET, POST] {
        let server = Server::start();
        let (listener, _) = server.worker();
        let mut client = server.client();
        client.send(request);
        let mut worker = Worker::accept(&listener);
        worker.read_request().unwrap();
        worker.send(&ok("first"));
        client.read_until("first");
        drop(worker);
        client.send(request);
        let mut worker = Worker::accept(&listener);
        worker.read_request().unwrap();
        worker.send(&ok("second"));
        client.read_until("second");
        assert_eq!(errors(&server), []);
    }
}

#[test]
fn request_that_the_worker_may_have_seen_is_sent_again_only_if_it_is_idempotent() {
    for (request, is_repeated) in [
        (GET, true),
        ("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", true),
        (
            "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
            true,
        ),
        (POST, false),
        ("PATCH / HTTP/1.1\r\nHost: a\r\n\r\n", false),
    ] {
        let server = Server::start();
        let (listener, _) = server.worker();
        let mut client = server.client();
        client.send(request);
        let mut worker = Worker::accept(&listener);
        let first = worker.read_request().unwrap();
        drop(worker);
        if is_repeated {
            let mut worker = Worker::accept(&listener);
            let second = worker.read_request().unwrap();
            assert_eq!(first.head, second.head);
            assert_eq!(first.body, second.body);
            worker.send("HTTP/1.1 204 Done\r\n\r\n");
            assert!(head(&mut client).starts_with("HTTP/1.1 204 Done\r\n"));
        } else {
            let response = head(&mut client);
            assert!(response.starts_with("HTTP/1.1 502 "), "{response}");
        }
        assert_eq!(server.proxy.stats().retries(), u64::from(is_repeated));
    }
}

#[test]
fn request_is_sent_again_once_and_never_after_a_byte_of_a_response() {
    let server = Server::start();
    let (listener, _) = server.worker();
    let mut client = server.client();
    client.send(GET);
    for _ in 0..2 {
        Worker::accept(&listener).read_request().unwrap();
    }
    assert!(head(&mut client).starts_with("HTTP/1.1 502 "));
    let mut client = server.client();
    client.send(GET);
    let mut worker = Worker::accept(&listener);
    worker.read_request().unwrap();
    worker.send("H");
    drop(worker);
    assert!(head(&mut client).starts_with("HTTP/1.1 502 "));
    assert_eq!(server.proxy.stats().retries(), 1);
    assert_eq!(errors(&server), [("broken", 2)]);
}

#[test]
fn request_of_a_dead_worker_is_sent_to_another() {
    let server = Server::start();
    let (listener, dead) = server.worker();
    let mut clients: Vec<_> = (0..4).map(|_| server.client()).collect();
    let mut connections = Vec::new();
    for client in &mut clients {
        client.send(GET);
        let mut worker = Worker::accept(&listener);
        worker.read_request().unwrap();
        connections.push(worker);
    }
    let other = server.responder(|_| ok("other"));
    drop((listener, connections));
    for client in &mut clients {
        client.read_until("other");
    }
    eventually("all requests have ended", || {
        dead.in_flight() + other.in_flight() == 0
    });
    // It is still the one with fewest requests, and refuses connections.
    for client in &mut clients {
        client.send(POST);
        client.read_until("other");
    }
    assert_eq!(errors(&server), []);
}

#[test]
fn request_waits_for_a_worker() {
    let server = Server::with(&[("APP_QUEUE_TIMEOUT", "20s")], |_| {});
    let mut client = server.client();
    client.send(POST);
    // The only worker refuses connections, then it is replaced.
    let (listener, address) = server.socket();
    drop(listener);
    let dead = server.balancer.add(address);
    let mut second = server.client();
    second.send(POST);
    server.balancer.remove(&dead);
    server.responder(|request| ok(&request.body));
    for mut client in [client, second] {
        assert!(
            client
                .read_until("\r\n\r\nhi")
                .starts_with("HTTP/1.1 200 OK\r\n")
        );
    }
}

#[test]
fn request_without_a_worker_is_503_in_time() {
    let server = Server::with(&[("APP_QUEUE_TIMEOUT", "100ms")], |_| {});
    let started = Instant::now();
    let response = server.ask("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(started.elapsed() >= Duration::from_millis(100));
    assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
    assert!(response.contains("\r\nretry-after: 1\r\n"), "{response}");
    assert!(response.contains("(APP_QUEUE_TIMEOUT)"), "{response}");
    assert!(
        response.contains("\r\ncache-control: no-store\r\n"),
        "{response}"
    );
    assert_eq!(errors(&server), [("no_worker", 1)]);
    // Health checks wait for nothing.
    let response = server.ask("GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
}

#[test]
fn late_response_is_504_and_the_request_is_cancelled() {
    let server = Server::with(&[("APP_TIMEOUT", "200ms")], |_| {});
    let (listener, upstream) = server.worker();
    let mut client = server.client();
    client.send(GET);
    let mut worker = Worker::accept(&listener);
    worker.read_request().unwrap();
    let response = head(&mut client);
    assert!(response.starts_with("HTTP/1.1 504 "), "{response}");
    assert!(!response.contains("retry-after"), "{response}");
    worker.assert_closed();
    assert_eq!(
        (upstream.in_flight(), server.proxy.stats().retries()),
        (0, 0)
    );
    assert_eq!(errors(&server), [("timeout", 1)]);
}

#[test]
fn time_that_the_client_takes_for_its_body_is_not_the_applications() {
    let server = Server::with(&[("APP_TIMEOUT", "300ms")], |_| {});
    server.responder(|request| ok(&format!("got {}", request.body.len())));
    for parts in [4, 9] {
        let mut client = server.client();
        let length = parts * 10_000;
        client.send(&format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"
        ));
        for _ in 0..parts {
            thread::sleep(Duration::from_millis(100));
            client.send(&"x".repeat(10_000));
        }
        client.read_until(&format!("got {length}"));
    }
}

#[test]
fn worker_that_does_not_read_a_long_body_is_late() {
    let server = Server::with(&[("APP_TIMEOUT", "200ms")], |_| {});
    let (listener, _) = server.worker();
    let mut client = server.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n");
    let mut sender = client.stream.try_clone().unwrap();
    let sender = thread::spawn(move || while sender.write_all(&[b'x'; 10_000]).is_ok() {});
    let mut worker = Worker::accept(&listener);
    worker.read_head().unwrap();
    assert!(head(&mut client).starts_with("HTTP/1.1 504 "));
    drop(client);
    sender.join().unwrap();
}

#[test]
fn client_may_send_slowly_but_not_pause() {
    let server = Server::with(&[], |limits| {
        limits.body_timeout = Duration::from_millis(400);
    });
    let (listener, _) = server.worker();
    let mut client = server.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n");
    for byte in 0..10 {
        thread::sleep(Duration::from_millis(80));
        client.send(&byte.to_string());
    }
    let mut worker = Worker::accept(&listener);
    assert_eq!(worker.read_request().unwrap().body, "0123456789");
    worker.send(&ok("read"));
    client.read_until("read");
    // A pause in a short body, which no worker gets to see, and in a long one.
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n0");
    let response = head(&mut client);
    assert!(response.starts_with("HTTP/1.1 408 "), "{response}");
    assert!(response.contains("connection: close\r\n"), "{response}");
    let mut client = server.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n0");
    let mut worker = Worker::accept(&listener);
    worker.read_head().unwrap();
    assert!(head(&mut client).starts_with("HTTP/1.1 408 "));
    assert_eq!(errors(&server), []);
}

#[test]
fn truncated_response_never_ends_cleanly() {
    let server = Server::start();
    let (listener, upstream) = server.worker();
    for (version, framing, sent) in [
        ("1.1", "Content-Length: 10", "part"),
        ("1.1", "Transfer-Encoding: chunked", "4\r\npart\r\n"),
        ("1.0", "Content-Length: 10", "part"),
        ("1.0", "Transfer-Encoding: chunked", "4\r\npart\r\n"),
        ("1.1", "Transfer-Encoding: chunked", "4\r\npart\r\n3\r\nx"),
    ] {
        let mut client = server.client();
        client.send(&format!("GET / HTTP/{version}\r\nHost: a\r\n\r\n"));
        let mut worker = Worker::accept(&listener);
        worker.read_request().unwrap();
        worker.send(&format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{sent}"));
        client.read_until("part");
        drop(worker);
        let rest = client.try_read_to_end();
        let error = rest.expect_err("a reset").kind();
        assert_eq!(
            error,
            std::io::ErrorKind::ConnectionReset,
            "{version} {framing}"
        );
    }
    assert_eq!(errors(&server), [("truncated", 5)]);
    assert_eq!(upstream.in_flight(), 0);
}

#[test]
fn response_may_begin_and_end_before_the_request_does() {
    let server = Server::start();
    let (listener, _) = server.worker();
    let long = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n";

    // The worker rejects the request and closes the connection.
    let mut client = server.client();
    client.send(long);
    let mut worker = Worker::accept(&listener);
    worker.read_head().unwrap();
    worker.send("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
    drop(worker);
    let response = client.read_until("\r\n\r\nno");
    assert!(
        response.starts_with("HTTP/1.1 413 Too Large\r\n"),
        "{response}"
    );

    // It does so while the client still sends.
    let mut client = server.client();
    client.send(long);
    let mut sender = client.stream.try_clone().unwrap();
    let sender = thread::spawn(move || while sender.write_all(&[b'x'; 10_000]).is_ok() {});
    let mut worker = Worker::accept(&listener);
    worker.read_head().unwrap();
    worker.send("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno");
    drop(worker);
    client.read_until("\r\n\r\nno");
    drop(client);
    sender.join().unwrap();

    // The worker streams while it reads.
    let mut client = server.client();
    client.send(long);
    let mut worker = Worker::accept(&listener);
    worker.read_head().unwrap();
    worker.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n");
    client.read_until("begun");
    let mut sender = client.stream.try_clone().unwrap();
    let sender = thread::spawn(move || sender.write_all(&vec![b'x'; 1_000_000]));
    let mut body = vec![0; 1_000_000];
    std::io::Read::read_exact(&mut worker.stream, &mut body).unwrap();
    worker.send("3\r\nend\r\n0\r\n\r\n");
    client.read_until("3\r\nend\r\n0\r\n\r\n");
    sender.join().unwrap().unwrap();
}

#[test]
fn client_that_breaks_off_its_body_ends_the_request() {
    let server = Server::start();
    let (listener, upstream) = server.worker();
    let mut client = server.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nx");
    let mut worker = Worker::accept(&listener);
    worker.read_head().unwrap();
    drop(client);
    // It never gets a whole body.
    assert_eq!(worker.read_to_end(), "x");
    eventually("the request has ended", || upstream.in_flight() == 0);
    assert_eq!(errors(&server), []);
}

#[test]
fn client_that_leaves_cancels_the_request() {
    let server = Server::start();
    let (listener, upstream) = server.worker();
    let started = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\r\n\r\n";
    for response in ["", started] {
        for is_reset in [true, false] {
            let mut client = server.client();
            client.send(GET);
            let mut worker = Worker::accept(&listener);
            worker.read_request().unwrap();
            if !response.is_empty() {
                worker.send(response);
                client.read_until("data: 1");
                assert_eq!((upstream.in_flight(), upstream.streams()), (1, 1));
            }
            if is_reset {
                client.reset();
            }
            drop(client);
            worker.assert_closed();
            eventually("the request has ended", || upstream.in_flight() == 0);
        }
    }
    assert_eq!(errors(&server), []);
}

#[test]
fn client_that_closed_its_side_gets_its_response() {
    let server = Server::start();
    let (listener, _) = server.worker();
    let mut client = server.client();
    client.send(GET);
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut worker = Worker::accept(&listener);
    worker.read_request().unwrap();
    worker.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    for part in 0..8 {
        thread::sleep(Duration::from_millis(200));
        worker.send(&format!("5\r\npart{part}\r\n"));
    }
    worker.send("0\r\n\r\n");
    let response = client.read_to_end();
    assert!(response.ends_with("part7\r\n0\r\n\r\n"), "{response}");
}

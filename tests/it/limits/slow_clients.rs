//! Clients that read slowly or not at all.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::metric;
use crate::support::{Connection, DEADLINE, Home, eventually, request};

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

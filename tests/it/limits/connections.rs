//! Eviction of connections, and refusal when all are busy.

use std::fs;

use super::descriptors::raise_file_limit;
use super::{metric, start_followers};
use crate::support::{Connection, Home, eventually};

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
    answer.assert_problem(503, "connection limit reached");
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

/// The GNU C library returns memory only from the end of its heaps.
#[test]
fn memory_of_a_crowd_returns_to_the_system() {
    raise_file_limit();
    let home = Home::started();
    let host = home.public_address();
    let status = format!("/proc/{}/status", home.state().pid);
    let heap = || -> u64 {
        let status = fs::read_to_string(&status).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"));
        line.and_then(|line| line.split_whitespace().next())
            .unwrap()
            .parse()
            .unwrap()
    };
    let idle = heap();
    let unfinished = |_| {
        let mut connection = Connection::open(&host);
        connection.send_bytes(b"GET / HTTP/1.1\r\nHost: x\r\n");
        connection
    };
    let crowd: Vec<_> = (0..2000).map(unfinished).collect();
    eventually("all have come", || {
        metric(&home, "fullon_http_connections{server=\"public\"}") == 2000
    });
    let middle = u64::midpoint(idle, heap());
    drop(crowd);
    eventually("the memory has returned", || heap() < middle);
}

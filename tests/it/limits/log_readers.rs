//! Clients that read the log, or do not read what they requested.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::net::TcpStream;

use super::{metric, start_followers};
use crate::support::{Connection, Home, eventually, request};

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
        .assert_problem(503, "read the log");
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
fn long_text_to_search_for_is_refused() {
    let home = Home::started();
    for path in ["/admin/logs", "/admin/logs/stream"] {
        let status = |text: &str| {
            let target = format!("{path}?contains={text}");
            home.call_admin("GET", &target)
        };
        for text in ["x".repeat(1025), "ab".repeat(7000), "%C3%A4".repeat(513)] {
            status(&text).assert_problem(400, "parameter `contains` is longer than 1024 bytes");
        }
    }
    for text in ["x".repeat(1024), "%C3%A4".repeat(512)] {
        let answer = home.call_admin("GET", &format!("/admin/logs?contains={text}"));
        assert_eq!(answer.status, 200);
    }
    home.run(["logs", "--contains", &"x".repeat(1025)])
        .exits(2)
        .stderr_contains(&["1024 bytes"]);
    home.run(["stop"]).succeeds();
    home.run(["logs", "--contains", &"x".repeat(1025)])
        .exits(2)
        .stderr_contains(&["1024 bytes"]);
}

#[test]
fn search_ends_when_its_client_disconnects() {
    let mut home = Home::new();
    home.set("LOG_LEVEL", "debug");
    home.set("LOG_MAX_SIZE", "1GiB");
    home.run(["start"]).succeeds();
    let mut log = fs::OpenOptions::new()
        .append(true)
        .open(home.log_file())
        .unwrap();
    let line = format!("{}\n", "abababab ".repeat(10));
    log.write_all(line.repeat(700_000).as_bytes()).unwrap();
    let bearer = format!("Bearer {}", home.token("admin:logs"));
    let headers = [("Authorization", bearer.as_str())];
    for (count, path) in ["/admin/logs?level=error", "/admin/logs/stream?level=error"]
        .into_iter()
        .enumerate()
    {
        let mut connection = Connection::open(&home.admin_address());
        connection.send("GET", path, &headers, "");
        drop(connection);
        eventually("the search has ended", || {
            let cancelled = "a search of the log ended early: the client has disconnected";
            end_of_log(&home).matches(cancelled).count() == count + 1
        });
    }
}

fn end_of_log(home: &Home) -> String {
    let mut file = fs::File::open(home.log_file()).unwrap();
    let length = file.metadata().unwrap().len();
    file.seek(SeekFrom::Start(length - 64 * 1024)).unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    text
}

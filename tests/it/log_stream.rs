//! The log as server-sent events.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use serde_json::Value;

use crate::support::{
    Connection, Home, LogFollower, Response, prerequisite_available, tools_directory,
};

/// The connection, and what of its chunks was not read yet. A proxy may end a chunk within a line.
pub struct EventStream(Connection, String);

#[derive(Debug, PartialEq)]
struct Event {
    name: String,
    id: String,
    data: Value,
}

impl EventStream {
    fn open(home: &Home, query: &str, extra: &[(&str, &str)]) -> (Self, Response) {
        Self::open_at(&home.admin_address(), home, query, extra)
    }

    pub fn open_at(
        address: &str,
        home: &Home,
        query: &str,
        extra: &[(&str, &str)],
    ) -> (Self, Response) {
        let token = format!("Bearer {}", home.token("admin:logs"));
        let mut connection = Connection::open(address);
        let headers: Vec<_> = [("Authorization", token.as_str())]
            .into_iter()
            .chain(extra.iter().copied())
            .collect();
        connection.send("GET", &format!("/admin/logs/stream{query}"), &headers, "");
        let head = connection.read_head();
        assert_eq!(head.status, 200, "{head:#?}");
        (Self(connection, String::new()), head)
    }

    pub fn set_read_timeout(&mut self, timeout: Duration) {
        self.0.set_read_timeout(timeout);
    }

    fn read_line(&mut self) -> String {
        loop {
            if let Some(end) = self.1.find('\n') {
                let line: String = self.1.drain(..=end).collect();
                return line.trim_end().to_owned();
            }
            let size = usize::from_str_radix(&self.0.read_line(), 16).unwrap();
            assert_ne!(size, 0, "the stream has ended");
            self.1.push_str(&self.0.read_text(size));
            assert_eq!(self.0.read_line(), "");
        }
    }

    /// The next event. Skips comments.
    fn next(&mut self) -> Event {
        let mut event = Event {
            name: String::new(),
            id: String::new(),
            data: Value::Null,
        };
        loop {
            let line = self.read_line();
            match line.split_once(": ") {
                Some(("event", name)) => event.name = name.into(),
                Some(("id", id)) => event.id = id.into(),
                Some(("data", data)) => {
                    event.data = serde_json::from_str(data).unwrap();
                    return event;
                }
                _ => {}
            }
        }
    }

    pub fn next_line(&mut self) -> String {
        let event = self.next();
        assert_eq!(event.name, "log", "{event:?}");
        assert_eq!(event.data["cursor"], event.id);
        event.data["line"].as_str().unwrap().to_owned()
    }
}

#[test]
fn history_is_followed_by_live_lines() {
    let home = Home::started();
    for number in 0..5 {
        home.log_request(&format!("before-{number}"));
    }
    crate::support::eventually("the line is logged", || home.log().contains("before-4"));
    let (mut stream, head) = EventStream::open(&home, "?lines=3", &[]);
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
    assert_eq!(head.header("cache-control"), Some("no-store"));
    assert_eq!(head.header("x-accel-buffering"), Some("no"));
    for number in 2..5 {
        assert!(stream.next_line().contains(&format!("before-{number}")));
    }
    assert!(stream.next_line().contains("/admin/logs/stream"));
    home.log_request("after-0");
    assert!(stream.next_line().contains("after-0"));
}

#[test]
fn stream_resumes_after_last_event() {
    let home = Home::started();
    for number in 0..5 {
        home.log_request(&format!("mark-{number}"));
    }
    crate::support::eventually("the line is logged", || home.log().contains("mark-4"));
    let (mut stream, _) = EventStream::open(&home, "?lines=5", &[]);
    stream.next();
    let second = stream.next();
    drop(stream);
    let query = format!("?after={}", second.id);
    for (query, headers) in [
        ("", vec![("Last-Event-ID", second.id.as_str())]),
        (&query, vec![]),
    ] {
        let (mut stream, _) = EventStream::open(&home, query, &headers);
        for number in 2..5 {
            assert!(stream.next_line().contains(&format!("mark-{number}")));
        }
    }

    // A polyfill of `EventSource` cannot send the header. It repeats the parameters of its page.
    let by_parameter = format!("?after=1-2-3-4&lastEventId={}", second.id);
    let empty = format!("{query}&lastEventId=");
    let header_wins = [("Last-Event-ID", second.id.as_str())];
    for (query, headers) in [
        (by_parameter.as_str(), &[][..]),
        (&empty, &[]),
        ("?lastEventId=1-2-3-4&after=x", &header_wins),
    ] {
        let (mut stream, _) = EventStream::open(&home, query, headers);
        assert!(stream.next_line().contains("mark-2"), "{query}");
    }
    home.call_admin("GET", "/admin/logs/stream?lastEventId=x")
        .assert_problem(400, "lastEventId");

    // Also after a restart.
    home.run(["restart"]).succeeds();
    let (mut stream, _) = EventStream::open(&home, &query, &[]);
    assert!(stream.next_line().contains("mark-2"));

    let unknown_id = [("Last-Event-ID", "1-2-3-4")];
    let (mut stream, _) = EventStream::open(&home, "", &unknown_id);
    assert_eq!(stream.next().name, "gap");
    assert!(stream.next_line().contains(" ready version="));
}

/// The polyfill sends the parameter, and no header.
#[test]
fn polyfill_of_event_source_resumes_after_a_restart() {
    let packages = tools_directory().join("event_source/node_modules");
    let needed = "event-source-polyfill (scripts/install-test-tools.sh)";
    if !prerequisite_available("the polyfill of EventSource", needed, packages.is_dir()) {
        return;
    }
    let home = Home::started();
    let program = home.path().join("follow.mjs");
    fs::write(&program, include_str!("event_source/follow.js")).unwrap();
    symlink(packages, home.path().join("node_modules")).unwrap();
    let address = format!("http://{}/admin/logs/stream?lines=0", home.admin_address());
    let mut command = home.command(tools_directory().join("bin/node"));
    command
        .arg(&program)
        .env("FULLON_STREAM", address)
        .env("FULLON_AUTHORIZATION", home.bearer());
    let mut stream = LogFollower::with(command);
    stream.read_until("(open)");
    home.log_request("mark-1.");
    let mut lines = stream.read_until("mark-1.");
    for number in 2..4 {
        home.run(["restart"]).succeeds();
        home.log_request(&format!("mark-{number}."));
        lines.extend(stream.read_until(&format!("mark-{number}.")));
    }
    let count = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
    for (text, expected) in [
        ("mark-1.", 1),
        ("mark-2.", 1),
        ("mark-3.", 1),
        ("(open)", 2),
        (" ready version=", 2),
        ("(gap)", 0),
    ] {
        assert_eq!(count(text), expected, "{text}: {lines:#?}");
    }
}

#[test]
fn client_cut_off_before_first_event_misses_none() {
    let home = Home::started();
    let (mut stream, _) = EventStream::open(&home, "?lines=0", &[]);
    let mut opening = vec![stream.0.read_line()];
    while opening.last().unwrap() != "" {
        opening.push(stream.0.read_line());
    }
    // The first line is the chunk size.
    let [_, comment, retry, id, _] = opening.as_slice() else {
        panic!("{opening:?}");
    };
    assert_eq!(
        (comment.as_str(), retry.as_str()),
        (": connected", "retry: 1000")
    );
    let id = id.strip_prefix("id: ").unwrap();
    drop(stream);
    home.log_request("missed");
    let (mut stream, _) = EventStream::open(&home, "?lines=0", &[("Last-Event-ID", id)]);
    assert!(stream.next_line().contains("/admin/logs/stream"));
    assert!(stream.next_line().contains("missed"));
}

#[test]
fn http_1_0_body_ends_with_connection_and_head_has_none() {
    let home = Home::started();
    let token = home.token("admin:logs");
    let headers = format!("Host: localhost\r\nAuthorization: Bearer {token}\r\n\r\n");
    let mut http_1_0 = Connection::open(&home.admin_address());
    http_1_0.send_bytes(format!("GET /admin/logs/stream HTTP/1.0\r\n{headers}").as_bytes());
    let head = http_1_0.read_head();
    assert_eq!((head.status, head.header("transfer-encoding")), (200, None));
    assert_eq!(http_1_0.read_line(), ": connected");

    let mut kept = Connection::open(&home.admin_address());
    kept.send_bytes(format!("HEAD /admin/logs/stream HTTP/1.1\r\n{headers}").as_bytes());
    assert_eq!(kept.read_head().status, 200);
    let token = format!("Bearer {token}");
    kept.send(
        "GET",
        "/admin/logs?lines=1",
        &[("Authorization", &token)],
        "",
    );
    assert_eq!(kept.read_response("GET").status, 200);

    home.run(["stop"]).succeeds();
    let rest = http_1_0.read_to_end();
    assert!(
        rest.ends_with("event: end\ndata: {\"reason\":\"stopping\"}\n\n"),
        "{rest}"
    );
}

#[test]
fn filters_apply_to_history_and_live_lines() {
    let home = Home::started();
    home.log_request("wanted-0");
    home.log_request("other");
    crate::support::eventually("the line is logged", || home.log().contains("other"));
    let (mut stream, _) = EventStream::open(&home, "?contains=wanted&level=info", &[]);
    assert!(stream.next_line().contains("wanted-0"));
    home.log_request("other");
    home.log_request("wanted-1");
    assert!(stream.next_line().contains("wanted-1"));
}

#[test]
fn stop_ends_stream_with_reason() {
    let home = Home::started();
    let (mut stream, _) = EventStream::open(&home, "?lines=1", &[]);
    stream.next();
    home.run(["stop"]).succeeds();
    let mut last = stream.next();
    while last.name == "log" {
        last = stream.next();
    }
    assert_eq!(
        (last.name.as_str(), &last.data["reason"]),
        ("end", &"stopping".into())
    );
    // The last chunk, and the end of the connection.
    assert_eq!(stream.0.read_to_end().trim(), "0");
}

#[test]
fn control_characters_cannot_forge_event() {
    let home = Home::started();
    crate::support::eventually("the line is logged", || {
        home.log().contains(" ready version=")
    });
    let mut log = std::fs::OpenOptions::new()
        .append(true)
        .open(home.log_file())
        .unwrap();
    std::io::Write::write_all(&mut log, b"harmless\revent: end\rdata: {}\n\n\xff\n").unwrap();
    let (mut stream, _) = EventStream::open(&home, "?lines=3", &[]);
    assert_eq!(stream.next_line(), "harmless\revent: end\rdata: {}");
    assert_eq!(stream.next_line(), "");
    assert_eq!(stream.next_line(), "\u{fffd}");
}

#[test]
fn non_text_last_event_id_is_refused() {
    let home = Home::started();
    let token = home.token("admin:logs");
    let mut connection = Connection::open(&home.admin_address());
    let head = format!(
        "GET /admin/logs/stream HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nLast-Event-ID: "
    );
    connection.send_bytes(head.as_bytes());
    connection.send_bytes(b"\xff\r\n\r\n");
    connection
        .read_response("GET")
        .assert_problem(400, "`Last-Event-ID`");
}

//! Text from outside reaches a terminal without control characters.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::thread;

use serde_json::{Value, json};

use crate::support::{Home, Outcome, eventually, jwt, request};

/// Sets the title of a terminal, clears it, reverses text, and makes up a line.
const HOSTILE: &str =
    "x\u{1b}]0;title\u{7}\u{9b}2J\u{7f}\u{202e}\u{200f}\u{2066}\r\nfullon: all is well";

fn is_control(c: char) -> bool {
    let is_direction = matches!(c, '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    (c.is_control() && c != '\n') || is_direction
}

#[track_caller]
fn assert_harmless(outcome: &Outcome) {
    let printed = [&*outcome.stdout, &*outcome.stderr].concat();
    assert!(!printed.contains(is_control), "{outcome:?}");
    let is_forged = |line: &str| line.starts_with("fullon: all is well");
    assert!(!printed.lines().any(is_forged), "{outcome:?}");
}

/// A server that answers each request with this status and JSON.
fn hostile_server(status: u16, body: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|length| length > 2) {
                line.clear();
            }
            let length = body.len();
            // The client may have closed the connection.
            let _ = write!(
                stream,
                "HTTP/1.1 {status} X\r\nContent-Type: application/problem+json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
        }
    });
    format!("http://{address}")
}

#[test]
fn answers_of_hostile_server_are_printed_without_control_characters() {
    let mut home = Home::new();
    home.set("JWT_SECRET_KEY", jwt::SECRET);
    let problem = json!({"type": "about:blank", "title": HOSTILE, "status": 422, "detail": HOSTILE,
        "errors": [{"setting": HOSTILE, "message": HOSTILE}]});
    for status in [200, 401, 409, 422, 503] {
        let url = hostile_server(status, problem.to_string());
        for command in [
            &["status"][..],
            &["stop"],
            &["reload"],
            &["restart"],
            &["logs", "--no-follow"],
            &["console"],
            &["doctor"],
            &["--json", "status"],
            &["--json", "reload"],
            &["--json", "doctor"],
        ] {
            let arguments = ["--admin-url", &url].into_iter();
            assert_harmless(&home.run(arguments.chain(command.iter().copied())));
        }
    }
}

#[test]
fn paths_and_settings_are_printed_without_control_characters() {
    let mut home = Home::new();
    let name = HOSTILE.replace('\r', "");
    let pid_file = home.path().join(format!("{name}.pid"));
    home.set("PID_FILE", pid_file.to_str().unwrap());
    home.set("DB_NAME", &name);
    for command in [
        &["status"][..],
        &["start"],
        &["config"],
        &["status"],
        &["doctor"],
        &["--json", "config"],
        &["--json", "status"],
        &["stop"],
    ] {
        let outcome = home.run(command.iter().copied());
        assert_harmless(&outcome);
    }
    home.set("PORT", HOSTILE);
    for command in [&["start"][..], &["config"], &["--json", "start"]] {
        assert_harmless(&home.run(command.iter().copied()).exits(2));
    }
}

#[test]
fn log_lines_have_no_control_characters_in_either_format() {
    for format in ["text", "json"] {
        let mut home = Home::new();
        home.set("LOG_FORMAT", format);
        home.set("JWT_SECRET_KEY", jwt::SECRET);
        home.run(["start"]).succeeds();
        let mut claims = jwt::claims("admin:control");
        claims["sub"] = json!(HOSTILE);
        let token = jwt::sign(jwt::SECRET, jwt::HEADER, claims.to_string());
        let bearer = format!("Bearer {token}");
        let headers = [("Authorization", bearer.as_str())];
        let reload = || request(&home.admin_address(), "POST", "/admin/reload", &headers, "");
        assert_eq!(reload().status, 200);
        // A path is logged as it was requested.
        home.log_request("\u{202e}\u{9b}");
        eventually("it is logged", || home.log().contains("\"reload\""));
        let log = fs::read_to_string(home.log_file()).unwrap();
        assert!(!log.contains(is_control), "{format}: {log:?}");
        if format == "json" {
            let lines = log.lines().map(|line| serde_json::from_str(line).unwrap());
            let subjects: Vec<Value> = lines.map(|line: Value| line["subject"].clone()).collect();
            assert!(subjects.contains(&json!(HOSTILE)), "{log}");
        }
    }
}

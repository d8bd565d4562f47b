//! Tokens that are taken back, and the list of sessions.

mod all;
mod file;
mod given_up;
mod ids;
mod keys;
mod locked;
mod one;
mod sessions;
mod under_way;
mod withheld_body;
mod without_api;

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::{Connection, Home, Response, TestSession, eventually};

const ALL: &str = "admin:read admin:logs admin:control";

fn revoke(home: &Home, request: &Value) -> Response {
    home.call_admin_with("POST", "/admin/tokens/revoke", &request.to_string())
}

#[track_caller]
fn revoke_token(home: &Home, token: &str) {
    let answer = revoke(home, &json!({ "token": token }));
    assert_eq!(answer.status, 200, "{answer:#?}");
}

fn call(home: &Home, token: &str) -> Response {
    home.call_admin_as(token, "GET", "/admin/status")
}

#[track_caller]
fn assert_revoked(home: &Home, token: &str) {
    call(home, token).assert_problem(401, "the token was revoked");
}

#[track_caller]
fn assert_accepted(home: &Home, token: &str) {
    let answer = call(home, token);
    assert_eq!(answer.status, 200, "{answer:#?}");
}

fn sign_in(home: &Home, token: &str) -> TestSession {
    TestSession::from(&home.call_admin_as(token, "POST", "/admin/session"))
}

fn session_status(home: &Home, session: &TestSession) -> u16 {
    let session = session.with_current_port(home);
    let answer = session.request(&home.admin_address(), "GET", "/admin/status");
    answer.status
}

/// Follows the log with these headers.
fn follow(home: &Home, query: &str, headers: &[(&str, &str)]) -> Connection {
    let mut stream = Connection::open(&home.admin_address());
    let path = format!("/admin/logs/stream?lines=0{query}");
    stream.send("GET", &path, headers, "");
    assert_eq!(stream.read_head().status, 200);
    stream
}

fn follow_with_token(home: &Home, token: &str) -> Connection {
    follow(home, "", &[("Authorization", &format!("Bearer {token}"))])
}

fn follow_with_session(home: &Home, session: &TestSession) -> Connection {
    let query = format!("&ticket={}", session.ticket);
    follow(home, &query, &[("Cookie", &session.cookie)])
}

#[track_caller]
fn assert_ended(mut stream: Connection, reason: &str) {
    let rest = stream.read_to_end();
    let end = format!(r#"data: {{"reason":"{reason}"}}"#);
    assert!(rest.contains(&end), "{rest}");
}

#[track_caller]
fn assert_continues(home: &Home, mut stream: Connection) {
    home.log_request("still-followed");
    eventually("the stream continues", || {
        stream.read_line().contains("still-followed")
    });
}

fn file(home: &Home) -> PathBuf {
    home.path().join(".fullon_master_api.revoked")
}

fn kill_and_start(home: &Home) {
    let killed = home.daemon().unwrap();
    killed.kill().unwrap();
    assert!(killed.wait_for_exit(crate::support::DEADLINE));
    home.run(["start"]).succeeds();
}

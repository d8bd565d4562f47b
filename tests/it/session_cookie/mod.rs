//! A token exchanged for a session cookie, for pages that cannot send a token.

mod end;
mod exchange;

use crate::support::{Home, Response, request};

/// The part that a browser keeps: `NAME=VALUE`.
fn cookie_of(answer: &Response) -> String {
    let cookie = answer.header("set-cookie").unwrap();
    cookie.split(';').next().unwrap().to_owned()
}

fn sign_in(home: &Home, scope: &str) -> String {
    let token = format!("Bearer {}", home.token(scope));
    let headers = [("Authorization", token.as_str())];
    let answer = request(
        &home.admin_address(),
        "POST",
        "/admin/session",
        &headers,
        "",
    );
    assert_eq!(answer.status, 201, "{answer:#?}");
    cookie_of(&answer)
}

fn call_api(home: &Home, method: &str, path: &str, headers: &[(&str, &str)]) -> Response {
    request(&home.admin_address(), method, path, headers, "")
}

fn status(home: &Home, cookie: &str) -> Response {
    call_api(home, "GET", "/admin/status", &[("Cookie", cookie)])
}

#[track_caller]
fn assert_refused(answer: &Response, text: &str) {
    answer.assert_problem(401, text);
    assert_eq!(
        answer.header("www-authenticate"),
        Some("Bearer error=\"invalid_token\"")
    );
}

/// The cookie with the name that the running daemon uses.
fn with_current_port(home: &Home, cookie: &str) -> String {
    let (_, value) = cookie.split_once('=').unwrap();
    let port = home.admin_address().rsplit(':').next().unwrap().to_owned();
    format!("fullon-session-{port}={value}")
}

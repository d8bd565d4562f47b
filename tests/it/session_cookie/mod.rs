//! A token exchanged for a session cookie, for pages that cannot send a token.

mod end;
mod exchange;

use crate::support::{Home, Response, request};

fn sign_in(home: &Home, scope: &str) -> String {
    let answer = home.call_admin_as(&home.token(scope), "POST", "/admin/session");
    assert_eq!(answer.status, 201, "{answer:#?}");
    answer.cookie()
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

//! Browser sessions: a token exchanged for three values, for pages that cannot send a token.

mod end;
mod exchange;
mod lifetime;
mod values;

use crate::support::{Home, Response, TestSession, request};

fn call_api(home: &Home, method: &str, path: &str, headers: &[(&str, &str)]) -> Response {
    request(&home.admin_address(), method, path, headers, "")
}

fn status(home: &Home, session: &TestSession) -> Response {
    call_api(home, "GET", "/admin/status", &session.headers())
}

#[track_caller]
fn assert_refused(answer: &Response, text: &str) {
    answer.assert_problem(401, text);
    assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
}

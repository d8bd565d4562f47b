//! A valid token sent in another way.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::{Attempt, valid_token};
use crate::support::TestSession;

/// `host` is the admin API.
pub fn all(host: &str, session: &TestSession) -> Vec<Attempt> {
    let good = valid_token();
    let basic = STANDARD.encode(format!("bearer:{good}"));
    let cookie = format!("fullon-session-{}", host.rsplit(':').next().unwrap());
    let lines = [
        ("nothing", String::new()),
        ("empty", "Authorization:\r\n".into()),
        ("blank", "Authorization:    \r\n".into()),
        ("scheme alone", "Authorization: Bearer\r\n".into()),
        ("scheme and space", "Authorization: Bearer    \r\n".into()),
        ("no scheme", format!("Authorization: {good}\r\n")),
        ("Basic", format!("Authorization: Basic {basic}\r\n")),
        ("JWT", format!("Authorization: JWT {good}\r\n")),
        ("Token", format!("Authorization: Token {good}\r\n")),
        ("DPoP", format!("Authorization: DPoP {good}\r\n")),
        ("no space", format!("Authorization: Bearer{good}\r\n")),
        ("colon", format!("Authorization: Bearer:{good}\r\n")),
        ("equals", format!("Authorization: Bearer={good}\r\n")),
        ("tab", format!("Authorization: Bearer\t{good}\r\n")),
        (
            "twice Bearer",
            format!("Authorization: Bearer Bearer {good}\r\n"),
        ),
        ("quoted", format!("Authorization: Bearer \"{good}\"\r\n")),
        (
            "named",
            format!("Authorization: Bearer access_token={good}\r\n"),
        ),
        ("comma", format!("Authorization: Bearer {good},\r\n")),
        (
            "list",
            format!("Authorization: Bearer {good}, Bearer {good}\r\n"),
        ),
        ("parameter", format!("Authorization: Bearer {good};v=1\r\n")),
        (
            "bad first",
            format!("Authorization: Bearer x\r\nAuthorization: Bearer {good}\r\n"),
        ),
        (
            "Basic first",
            format!("Authorization: Basic eDp5\r\nAuthorization: Bearer {good}\r\n"),
        ),
        ("proxy", format!("Proxy-Authorization: Bearer {good}\r\n")),
        ("own header", format!("X-Access-Token: {good}\r\n")),
        (
            "subprotocol",
            format!("Sec-WebSocket-Protocol: bearer, {good}\r\n"),
        ),
        (
            "as the session",
            format!("Cookie: {cookie}={good}\r\nX-Fullon-Session: {good}\r\n"),
        ),
        (
            "as a cookie",
            format!("Cookie: access_token={good}; Authorization=Bearer {good}\r\n"),
        ),
    ];
    let mut attempts: Vec<_> = lines
        .into_iter()
        .map(|(what, lines)| Attempt::with(what, lines, &good))
        .collect();
    let not_text = [
        b"Authorization: Bearer \xff\xfe".as_slice(),
        good.as_bytes(),
        b"\r\n",
    ];
    attempts.push(Attempt::with("not UTF-8", not_text.concat(), &good));
    attempts.push(Attempt {
        query: format!("?access_token={good}&token={good}&authorization=Bearer%20{good}"),
        ..Attempt::with("in the query", "", &good)
    });
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    attempts.push(Attempt {
        body: format!("access_token={good}"),
        ..Attempt::with("in a form", form, &good)
    });
    attempts.push(Attempt {
        body: json!({ "access_token": good }).to_string(),
        ..Attempt::with("in the body", "Content-Type: application/json\r\n", &good)
    });
    let (_, value) = session.cookie.split_once('=').unwrap();
    for (what, value) in [
        ("cookie", value),
        ("session value", &session.session),
        ("ticket", &session.ticket),
    ] {
        attempts.push(Attempt::bearer(what, value));
    }
    attempts
}

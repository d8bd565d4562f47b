//! When sessions and streams end: with the token that they were created from.

use std::time::Duration;

use fullon_master_api::auth::TokenSigner;
use serde_json::json;

use super::{assert_refused, status};
use crate::support::jwt::{self, SECRET};
use crate::support::{Connection, Home, TestSession, eventually};

const SCOPES: &str = "admin:read admin:logs admin:control";

fn start_daemon() -> Home {
    let mut home = Home::new();
    home.set("JWT_SECRET_KEY", SECRET);
    home.run(["start"]).succeeds();
    home
}

/// A token that expires after some seconds.
fn token(seconds: i64, session_seconds: Option<i64>) -> String {
    let now = jiff::Timestamp::now().as_second();
    let mut claims = jwt::claims(SCOPES);
    claims["exp"] = json!(now + seconds);
    if let Some(seconds) = session_seconds {
        claims["session_exp"] = json!(now + seconds);
    }
    jwt::sign(SECRET, jwt::HEADER, claims.to_string())
}

/// How long the session of a token lasts, in seconds.
fn session_lifetime(home: &Home, token: &str) -> i64 {
    let answer = home.call_admin_as(token, "POST", "/admin/session");
    assert_eq!(answer.status, 201, "{answer:#?}");
    let expires_at = answer.json()["expires_at"].as_str().unwrap().to_owned();
    let expires_at: jiff::Timestamp = expires_at.parse().unwrap();
    expires_at.duration_since(jiff::Timestamp::now()).as_secs()
}

#[test]
fn session_expires_with_its_token_or_as_the_signer_says() {
    let home = start_daemon();
    let hour = 60 * 60;
    for (token, expected) in [
        (token(100, None), 100),
        (token(hour, None), hour),
        (token(60, Some(2 * hour)), 2 * hour),
        (token(60, Some(10)), 10),
        // At most a working day.
        (token(60, Some(13 * hour)), 12 * hour),
        (token(100 * hour, None), 12 * hour),
    ] {
        let lifetime = session_lifetime(&home, &token);
        assert!((expected - 9..=expected).contains(&lifetime), "{lifetime}");
    }
    // It is valid within the tolerated clock difference, but creates no session.
    let expired = token(-1, None);
    assert_eq!(
        home.call_admin_as(&expired, "GET", "/admin/status").status,
        200
    );
    home.call_admin_as(&expired, "POST", "/admin/session")
        .assert_problem(401, "expired");
}

#[test]
fn console_session_lasts_twelve_hours() {
    let home = Home::started();
    let printed = home.run(["console"]).succeeds().stdout;
    let (_, token) = printed.trim().split_once("#token=").unwrap();
    let seconds = session_lifetime(&home, token);
    let day = 12 * 60 * 60;
    assert!((day - 60..=day).contains(&seconds), "{seconds}");
}

#[test]
fn session_and_its_streams_end_at_the_same_second() {
    let home = start_daemon();
    let short = token(3, None);
    let answer = home.call_admin_as(&short, "POST", "/admin/session");
    let session = TestSession::from(&answer);
    assert_eq!(status(&home, &session).status, 200);
    let expires_at = answer.json()["expires_at"].as_str().unwrap().to_owned();
    let expires_at: jiff::Timestamp = expires_at.parse().unwrap();
    let stream = |path: &str, header: (&str, &str)| {
        let mut stream = Connection::open(&home.admin_address());
        stream.send("GET", path, &[header], "");
        assert_eq!(stream.read_head().status, 200);
        stream
    };
    let ticket = format!("/admin/logs/stream?lines=0&ticket={}", session.ticket);
    let bearer = format!("Bearer {short}");
    let streams = [
        (stream(&ticket, ("Cookie", &session.cookie)), "signed_out"),
        (
            stream("/admin/logs/stream?lines=0", ("Authorization", &bearer)),
            "token_expired",
        ),
    ];
    for (mut stream, reason) in streams {
        let rest = stream.read_to_end();
        let end = format!("event: end\ndata: {{\"reason\":\"{reason}\"}}");
        assert!(rest.contains(&end), "{rest}");
        // Not at the next line or comment.
        let late = jiff::Timestamp::now()
            .duration_since(expires_at)
            .as_secs_f64();
        assert!((0.0..10.0).contains(&late), "{reason}: {late} s late");
    }
    assert_refused(&status(&home, &session), "expired");
}

#[test]
fn token_valid_for_more_than_a_year_is_refused() {
    let home = start_daemon();
    let day = 24 * 60 * 60;
    let status = |token: &str| home.call_admin_as(token, "GET", "/admin/status");
    assert_eq!(status(&token(366 * day, None)).status, 200);
    for seconds in [366 * day + 60, 100_000 * day, i64::MAX / 2] {
        status(&token(seconds, None)).assert_problem(401, "366 days");
    }
}

/// The token of a command lasts for seconds, but the log that it follows has no end.
#[test]
fn stream_of_a_command_outlasts_its_token() {
    let home = start_daemon();
    let key = home.state().instance_key.to_secret();
    let token = TokenSigner::with_instance_key(&key)
        .sign("me", SCOPES.parse().unwrap(), Duration::from_secs(5))
        .unwrap();
    let bearer = format!("Bearer {token}");
    let mut stream = Connection::open(&home.admin_address());
    let headers = [("Authorization", bearer.as_str())];
    stream.send("GET", "/admin/logs/stream?lines=0", &headers, "");
    assert_eq!(stream.read_head().status, 200);
    eventually("the token has expired", || {
        home.call_admin_as(&token, "GET", "/admin/status").status == 401
    });
    home.log_request("followed");
    loop {
        let line = stream.read_line();
        assert!(!line.contains("token_expired"));
        if line.contains("followed") {
            break;
        }
    }
}

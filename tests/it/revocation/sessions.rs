//! The list of sessions, and ending one.

use std::time::Duration;

use fullon_master_api::auth::{Scopes, TokenSigner};
use serde_json::json;

use super::{
    ALL, assert_continues, assert_ended, follow_with_session, kill_and_start, session_status,
};
use crate::support::{Connection, Home, TestSession, eventually, jwt};

fn session_id(home: &Home, session: &TestSession) -> String {
    let own = session.request(&home.admin_address(), "GET", "/admin/session");
    own.json()["id"].as_str().unwrap().to_owned()
}

#[test]
fn sessions_are_listed_and_ended() {
    let home = Home::started();
    home.run(["sessions"])
        .succeeds()
        .stdout_contains(&["Nobody is signed in"]);
    let [ended, other] = [(); 2].map(|()| home.sign_in(ALL));
    let [ended_id, other_id] = [&ended, &other].map(|it| session_id(&home, it));
    let list = home.call_admin("GET", "/admin/sessions").json();
    let list = list.as_array().unwrap();
    assert_eq!(list.len(), 2);
    assert_eq!(list[0]["id"], ended_id);
    assert_eq!(list[0]["scopes"], json!(ALL.split(' ').collect::<Vec<_>>()));
    assert_eq!(list[0]["log_only"], false);
    assert_ne!(list[0]["token_id"], list[1]["token_id"]);
    assert!(list[0]["token_id"].is_string());
    let text = home.run(["sessions"]).succeeds().stdout;
    assert!(
        text.contains(&ended_id) && text.contains(&other_id),
        "{text}"
    );
    for secret in [&ended.session, &ended.ticket, &ended.cookie] {
        let value = secret.rsplit('=').next().unwrap();
        assert!(!format!("{list:?}{text}").contains(value));
    }

    let streams = [&ended, &other].map(|session| follow_with_session(&home, session));
    home.run(["sessions", "--end", &ended_id])
        .succeeds()
        .stdout_contains(&["ended"]);
    let [ended_stream, other_stream] = streams;
    assert_ended(ended_stream, "signed_out");
    assert_continues(&home, other_stream);
    assert_eq!(session_status(&home, &ended), 401);
    assert_eq!(session_status(&home, &other), 200);
    for id in [&*ended_id, "no-id", "../stop", ""] {
        home.run(["sessions", "--end", id])
            .exits(1)
            .stderr_contains(&["no session with this id"]);
    }
    assert!(
        home.log()
            .contains("action=\"end_session\" outcome=\"accepted\"")
    );
    let outcome = home.run(["--json", "sessions"]).succeeds();
    assert_eq!(outcome.json().as_array().unwrap().len(), 1);
    home.restart();
    assert_eq!(session_status(&home, &ended), 401);
    assert_eq!(session_status(&home, &other), 200);
    kill_and_start(&home);
    home.run(["sessions"])
        .succeeds()
        .stdout_contains(&[&other_id, "log only"]);
    home.run(["stop"]).succeeds();
    home.run(["sessions"])
        .exits(1)
        .stderr_contains(&["not running", "fullon start"]);
}

#[test]
fn session_ends_others_only_with_control() {
    let home = Home::started();
    let [reader, operator] = ["admin:logs", ALL].map(|scope| home.sign_in(scope));
    let id = session_id(&home, &home.sign_in(ALL));
    let path = format!("/admin/sessions/{id}");
    let host = home.admin_address();
    assert_eq!(reader.request(&host, "GET", "/admin/sessions").status, 200);
    reader
        .request(&host, "DELETE", &path)
        .assert_problem(403, "admin:control");
    assert_eq!(operator.request(&host, "DELETE", &path).status, 204);
    operator
        .request(&host, "DELETE", &path)
        .assert_problem(404, "no session");
}

/// The sessions are those of the new process.
#[test]
fn replaced_process_neither_lists_nor_ends_sessions() {
    let home = Home::started();
    let host = home.admin_address();
    let bearer = home.bearer();
    let headers = [("Authorization", bearer.as_str())];
    let mut kept: Vec<_> = (0..2)
        .map(|_| {
            let mut connection = Connection::open(&host);
            connection.send("GET", "/admin/sessions", &headers, "");
            assert_eq!(connection.read_response("GET").json(), json!([]));
            connection
        })
        .collect();
    home.restart();
    let session = home.sign_in(ALL);
    let path = format!("/admin/sessions/{}", session_id(&home, &session));
    for (method, path) in [("GET", "/admin/sessions"), ("DELETE", &path)] {
        let mut connection = kept.remove(0);
        connection.send(method, path, &headers, "");
        connection
            .read_response(method)
            .assert_problem(409, "on a new connection");
    }
    assert_eq!(session_status(&home, &session), 200);
}

#[test]
fn expired_sessions_are_not_counted_as_ended() {
    let home = Home::started();
    let token = |seconds: i64| {
        let mut claims = jwt::claims(ALL);
        let now = jiff::Timestamp::now().as_second();
        claims["exp"] = (now + seconds).into();
        claims["iat"] = now.into();
        claims["jti"] = format!("valid for {seconds}").into();
        jwt::sign(home.key().expose(), jwt::HEADER, claims.to_string())
    };
    let sign_in = |token: &str| super::sign_in(&home, token);
    let (short, long) = (token(2), token(600));
    let expired = [&short, &short].map(|token| sign_in(token));
    for session in &expired {
        eventually("the session has expired", || {
            session_status(&home, session) == 401
        });
    }
    let valid = sign_in(&long);
    let ended = |request| super::revoke(&home, &request).json()["sessions_ended"].clone();
    assert_eq!(ended(json!({ "token": short })), 0);
    assert_eq!(ended(json!({ "token": long })), 1);
    assert_eq!(session_status(&home, &valid), 401);
    let [short, long] = [token(2), home.token(ALL)];
    let expired = sign_in(&short);
    eventually("the session has expired", || {
        session_status(&home, &expired) == 401
    });
    sign_in(&long);
    assert_eq!(ended(json!({ "all": true })), 1);
}

/// The session would be rejected at once.
#[test]
fn clock_behind_the_revocation_of_all_tokens_keeps_from_signing_in() {
    let home = Home::started();
    home.run(["stop"]).succeeds();
    let limit = jiff::Timestamp::now().as_second() + 3600;
    let list = json!({ "not_before": limit, "tokens": [] });
    std::fs::write(super::file(&home), list.to_string()).unwrap();
    home.run(["start"]).succeeds();
    let instance_key = home.state().instance_key.to_secret();
    let signer = TokenSigner::with_instance_key(&instance_key);
    let token = signer.sign("me", Scopes::ALL, Duration::from_mins(1));
    home.call_admin_as(&token.unwrap(), "POST", "/admin/session")
        .assert_problem(409, "correct the clock");
    let audited = "action=\"sign_in\" outcome=\"refused\"";
    eventually("it is audited", || home.log().contains(audited));
}

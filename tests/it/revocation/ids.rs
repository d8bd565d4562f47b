//! Ids of tokens, of which the key is unknown.

use serde_json::json;

use super::{ALL, assert_accepted, assert_revoked, session_status, sign_in};
use crate::support::{Home, jwt};

/// A daemon with a key of its own, which reads the list of `home`.
fn other_daemon(home: &Home) -> Home {
    let mut other = Home::new();
    other.set(
        "JWT_SECRET_KEY",
        &jwt::made_up_secret("of the other daemon"),
    );
    other.set("PID_FILE", &other.pid_file().display().to_string());
    other.set("HOME", &home.path().display().to_string());
    other.run(["start"]).succeeds();
    other
}

fn id(token: &str) -> String {
    jwt::claims_of(token)["jti"].as_str().unwrap().to_owned()
}

/// The keys that end there did not sign the token.
#[test]
fn id_stays_revoked_when_keys_end_where_it_was_revoked() {
    let home = Home::started();
    let other = other_daemon(&home);
    let [by_api, offline, kept] = [(); 3].map(|()| other.token(ALL));
    let session = sign_in(&other, &by_api);
    let made = other.call_admin_as(&by_api, "POST", "/admin/session/token");
    let one_time = made.json()["token"].as_str().unwrap().to_owned();
    home.run(["token", "--revoke", &id(&by_api)]).succeeds();
    home.run(["token", "--revoke-all"])
        .succeeds()
        .stdout_contains(&["Signing key: replaced"]);
    assert_revoked(&other, &by_api);
    assert_eq!(session_status(&other, &session), 401);
    let answer = other.call_admin_as(&one_time, "POST", "/admin/session");
    assert_eq!(answer.status, 401);
    home.run(["stop"]).succeeds();
    home.run(["token", "--revoke", &id(&offline)]).succeeds();
    home.run(["token", "--revoke-all"]).succeeds();
    let refused = [&by_api, &offline];
    for token in refused {
        assert_revoked(&other, token);
    }
    other.run(["token", "--revoke-all"]).succeeds();
    other.run(["restart", "--hard"]).succeeds();
    for token in refused {
        assert_revoked(&other, token);
    }
    // It was issued before.
    assert_revoked(&other, &kept);
    assert_accepted(&other, &other.token(ALL));
}

/// A holder of `admin:logs` could read it in the audit trail: the header of all tokens is the same.
#[test]
fn end_of_a_token_is_not_taken_for_an_id() {
    let home = Home::started();
    let token = home.token(ALL);
    let (header, rest) = token.split_once('.').unwrap();
    let signature = token.rsplit('.').next().unwrap();
    let encoded = token.replace('.', "%2e").replace('e', "%65");
    for part in [rest, &token[header.len() + 4..], &token[60..], &encoded] {
        let answer = super::revoke(&home, &json!({ "jti": part }));
        answer.assert_problem(400, "a part of one");
        home.run(["token", "--revoke", part])
            .exits(1)
            .stderr_contains(&["malformed"]);
    }
    assert_accepted(&home, &token);
    let audit = home.run(["--json", "audit"]).succeeds();
    for text in [home.log(), audit.stdout] {
        assert!(!text.contains(signature), "{text}");
    }
}

/// Only its own daemon knows that it is the id of a session.
#[test]
fn command_says_that_ids_are_not_those_of_sessions() {
    let home = Home::started();
    let other = other_daemon(&home);
    let token = other.token(ALL);
    let session = sign_in(&other, &token);
    let own = session.request(&other.admin_address(), "GET", "/admin/session");
    let session_id = own.json()["id"].as_str().unwrap().to_owned();
    home.run(["token", "--revoke", &session_id])
        .succeeds()
        .stdout_contains(&["id of a browser session", "fullon sessions --end"]);
    assert_eq!(session_status(&other, &session), 200);
    other.run(["token", "--revoke", &session_id]).exits(1);
}

//! Revoking all tokens where other processes, or somebody else, have the key.

use std::fs;
use std::time::Duration;

use fullon_master_api::auth::{Scopes, TokenSigner};
use fullon_master_api::instance::StateFile;
use serde_json::json;

use super::one::{call_on, kept_connection};
use super::{
    ALL, assert_accepted, assert_continues, assert_ended, assert_revoked, call,
    follow_with_session, follow_with_token, kill_and_start, session_status, sign_in,
};
use crate::support::{Home, Outcome, jwt};

/// Another daemon of the same user.
fn other_daemon(home: &Home) -> Home {
    let mut other = Home::new();
    other.set("PID_FILE", &other.pid_file().display().to_string());
    other.set("HOME", &home.path().display().to_string());
    other.run(["start"]).succeeds();
    other
}

fn key(home: &Home) -> String {
    let key = fs::read_to_string(home.path().join(".fullon_master_api.key")).unwrap();
    key.trim().to_owned()
}

/// A token of somebody who knows the key. Its `iat` is ahead, so that its time does not revoke it.
pub fn forge(key: &str) -> String {
    let mut claims = jwt::claims(ALL);
    claims["iat"] = json!(jiff::Timestamp::now().as_second() + 60);
    jwt::sign(key, jwt::HEADER, claims.to_string())
}

#[test]
fn replaced_key_ends_at_all_daemons_of_the_user() {
    let home = Home::started();
    let other = other_daemon(&home);
    let key = key(&home);
    assert_accepted(&other, &forge(&key));
    let session = sign_in(&other, &home.token(ALL));
    let streams = [
        (follow_with_token(&other, &forge(&key)), "token_expired"),
        (follow_with_session(&other, &session), "signed_out"),
    ];
    home.run(["token", "--revoke-all"]).succeeds();
    let assert_key_ended = || {
        for each in [&home, &other] {
            assert_eq!(call(each, &forge(&key)).status, 401);
            assert_accepted(each, &home.token(ALL));
        }
    };
    assert_key_ended();
    for (stream, reason) in streams {
        assert_ended(stream, reason);
    }
    // Neither keeps the old key as the previous one.
    other.run(["reload"]).succeeds();
    assert_key_ended();
    other.restart();
    assert_key_ended();
    kill_and_start(&other);
    assert_key_ended();
}

/// A client with a kept connection gets one more answer from a process that was replaced.
#[test]
fn replaced_key_ends_at_replaced_process() {
    let home = Home::started();
    let key = key(&home);
    let token = home.token(ALL);
    let mut kept: Vec<_> = (0..2).map(|_| kept_connection(&home, &token)).collect();
    home.restart();
    assert_eq!(call_on(&mut kept.remove(0), &forge(&key)).status, 200);
    home.run(["token", "--revoke-all"]).succeeds();
    assert_eq!(call_on(&mut kept.remove(0), &forge(&key)).status, 401);
}

/// An interrupted command has ended the key, but has not replaced it.
#[test]
fn start_replaces_ended_key() {
    let home = Home::started();
    let path = home.path().join(".fullon_master_api.key");
    let key = key(&home);
    home.run(["token", "--revoke-all"]).succeeds();
    fs::write(&path, &key).unwrap();
    assert_eq!(call(&home, &forge(&key)).status, 401);
    kill_and_start(&home);
    assert_eq!(call(&home, &forge(&key)).status, 401);
    assert_accepted(&home, &home.token(ALL));
    home.run(["stop"]).succeeds();
    home.write_env(&format!("JWT_SECRET_KEY={key}\n"));
    home.run(["start"])
        .exits(1)
        .stderr_contains(&["JWT_SECRET_KEY", "--revoke-all"]);
}

#[test]
fn command_elsewhere_knows_that_the_service_has_its_own_key() {
    let home = Home::new();
    home.write_env(&format!("JWT_SECRET_KEY={}\n", jwt::made_up_secret("own")));
    home.run(["start"]).succeeds();
    home.run(["stop"]).succeeds();
    let elsewhere = tempfile::tempdir().unwrap();
    let mut command = home.fullon(["token", "--revoke-all"]);
    command.current_dir(elsewhere.path());
    Outcome::run(&mut command)
        .succeeds()
        .stdout_contains(&["unchanged, because JWT_SECRET_KEY sets it"]);
    assert!(!home.path().join(".fullon_master_api.key").exists());
}

/// Services that set one key share it.
#[test]
fn one_time_token_ends_with_the_key_that_another_daemon_revokes() {
    let mut home = Home::new();
    home.set("JWT_SECRET_KEY", &jwt::made_up_secret("shared"));
    home.run(["start"]).succeeds();
    let mut other = Home::new();
    other.set("JWT_SECRET_KEY", &jwt::made_up_secret("shared"));
    other.set("PID_FILE", &other.pid_file().display().to_string());
    other.set("HOME", &home.path().display().to_string());
    other.run(["start"]).succeeds();
    // As `fullon console` does.
    let signer = TokenSigner::with_instance_key(&other.state().instance_key.to_secret());
    let make = || {
        let token = signer.sign("me", Scopes::ALL, Duration::from_mins(1));
        let made = other.call_admin_as(&token.unwrap(), "POST", "/admin/session/token");
        made.json()["token"].as_str().unwrap().to_owned()
    };
    let sign_in = |token: &str| other.call_admin_as(token, "POST", "/admin/session").status;
    assert_eq!(sign_in(&make()), 201);
    let before = make();
    home.run(["token", "--revoke-all"]).succeeds();
    assert_eq!(sign_in(&before), 401);
    assert_eq!(sign_in(&make()), 201);
}

/// Services that set different keys are separate.
#[test]
fn service_with_another_key_keeps_its_tokens_and_sessions() {
    let mut home = Home::new();
    home.set("JWT_SECRET_KEY", &jwt::made_up_secret("own"));
    home.run(["start"]).succeeds();
    let mut other = Home::new();
    other.set("JWT_SECRET_KEY", &jwt::made_up_secret("other"));
    other.set("PID_FILE", &other.pid_file().display().to_string());
    other.set("HOME", &home.path().display().to_string());
    other.run(["start"]).succeeds();
    let token = other.token(ALL);
    let session = sign_in(&other, &token);
    let stream = follow_with_session(&other, &session);
    let assert_kept = || {
        assert_accepted(&other, &token);
        assert_eq!(session_status(&other, &session), 200);
    };
    let own = home.token(ALL);
    home.run(["token", "--revoke-all"]).succeeds();
    assert_revoked(&home, &own);
    assert_accepted(&home, &home.token(ALL));
    assert_kept();
    // Without the daemon, too.
    let own = home.token(ALL);
    home.run(["stop"]).succeeds();
    home.run(["token", "--revoke-all"]).succeeds();
    home.run(["start"]).succeeds();
    assert_revoked(&home, &own);
    assert_kept();
    assert_continues(&other, stream);
    // And the other way round.
    other.run(["token", "--revoke-all"]).succeeds();
    assert_revoked(&other, &token);
    assert_eq!(session_status(&other, &session), 401);
    assert_accepted(&home, &home.token(ALL));
}

/// A unit may set it, so that no file tells.
#[test]
fn command_knows_of_a_key_that_only_the_daemon_was_given() {
    let home = Home::new();
    let secret = jwt::made_up_secret("given");
    let start = || {
        let mut command = home.fullon(["start"]);
        Outcome::run(command.env("JWT_SECRET_KEY", &secret)).succeeds();
    };
    start();
    let token = jwt::sign(&secret, jwt::HEADER, jwt::claims(ALL).to_string());
    assert_accepted(&home, &token);
    home.run(["stop"]).succeeds();
    home.run(["token", "--revoke-all"])
        .succeeds()
        .stdout_contains(&["unchanged, because JWT_SECRET_KEY sets it"]);
    start();
    assert_revoked(&home, &token);
    // Of a daemon that nobody knows any more, the keys are unknown.
    let token = jwt::sign(&secret, jwt::HEADER, jwt::claims(ALL).to_string());
    home.run(["stop"]).succeeds();
    fs::remove_file(StateFile::path(&home.pid_file())).unwrap();
    home.run(["token", "--revoke-all"]).succeeds();
    start();
    assert_revoked(&home, &token);
}

//! Revoking all tokens.

use std::fs;

use serde_json::json;

use super::{
    ALL, assert_accepted, assert_ended, assert_revoked, call, follow_with_session,
    follow_with_token, kill_and_start, session_status, sign_in,
};
use crate::support::{Home, file_mode, jwt};

#[test]
fn all_tokens_are_revoked_and_generated_key_replaced() {
    let home = Home::started();
    let key_file = home.path().join(".fullon_master_api.key");
    let key = fs::read_to_string(&key_file).unwrap();
    let token = home.token(ALL);
    let session = sign_in(&home, &token);
    let made = home.call_admin_as(&token, "POST", "/admin/session/token");
    let one_time = made.json()["token"].as_str().unwrap().to_owned();
    // Local commands follow on: they sign with the instance key.
    let mut following = crate::support::spawn(
        home.fullon(["logs"])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null()),
    );
    let streams = [
        (follow_with_token(&home, &token), "token_expired"),
        (follow_with_session(&home, &session), "signed_out"),
    ];
    home.run(["token", "--revoke-all"])
        .succeeds()
        .stdout_contains(&[
            "All tokens are revoked",
            "Sessions ended: 1",
            "Signing key: replaced",
        ]);
    for (stream, reason) in streams {
        assert_ended(stream, reason);
    }
    assert!(following.is_alive());
    assert_eq!(file_mode(&key_file), 0o600);
    assert_ne!(fs::read_to_string(&key_file).unwrap(), key);
    // At once, without a restart.
    let new = home.token(ALL);
    let new_session = sign_in(&home, &new);
    let assert_taken_back = || {
        assert_eq!(call(&home, &token).status, 401);
        let answer = home.call_admin_as(&one_time, "POST", "/admin/session");
        assert_eq!(answer.status, 401);
        assert_eq!(session_status(&home, &session), 401);
        assert_accepted(&home, &new);
    };
    assert_taken_back();
    assert_eq!(session_status(&home, &new_session), 200);
    home.run(["reload"]).succeeds();
    assert_taken_back();
    home.restart();
    assert_taken_back();
    assert_eq!(session_status(&home, &new_session), 200);
    kill_and_start(&home);
    assert_taken_back();
    let names = fs::read_dir(home.path()).unwrap().flatten();
    for entry in names {
        let name = entry.file_name().into_string().unwrap();
        assert!(!name.contains(".new"), "{name} is left");
    }
}

#[test]
fn configured_key_stays_but_its_tokens_are_revoked() {
    let home = Home::new();
    let secret = jwt::made_up_secret("first");
    home.write_env(&format!("JWT_SECRET_KEY={secret}\n"));
    home.run(["start"]).succeeds();
    let old = home.token(ALL);
    let undated = |secret: &str| jwt::sign(secret, jwt::HEADER, jwt::claims(ALL).to_string());
    assert_accepted(&home, &undated(&secret));
    // The previous key is valid for a while.
    let second = jwt::made_up_secret("second");
    home.write_env(&format!("JWT_SECRET_KEY={second}\n"));
    home.run(["reload"]).succeeds();
    assert_accepted(&home, &old);
    let current = home.token(ALL);
    let session = sign_in(&home, &current);

    let outcome = home.run(["--json", "token", "--revoke-all"]).succeeds();
    assert_eq!(
        outcome.json(),
        json!({ "sessions_ended": 1, "signing_key": "unchanged" })
    );
    let new = home.token(ALL);
    let assert_taken_back = || {
        // The previous key is gone, too.
        assert_eq!(call(&home, &old).status, 401);
        assert_revoked(&home, &current);
        assert_revoked(&home, &undated(&second));
        assert_eq!(session_status(&home, &session), 401);
        assert_accepted(&home, &new);
    };
    assert_taken_back();
    home.restart();
    assert_taken_back();
    kill_and_start(&home);
    assert_taken_back();
    home.run(["token", "--revoke-all"])
        .succeeds()
        .stdout_contains(&["unchanged", "JWT_SECRET_KEY"]);
    assert_revoked(&home, &new);
    home.run(["status"]).succeeds();
}

#[test]
fn command_revokes_all_without_daemon() {
    for secret in [None, Some(jwt::made_up_secret("only"))] {
        let home = Home::new();
        if let Some(secret) = &secret {
            home.write_env(&format!("JWT_SECRET_KEY={secret}\n"));
        }
        home.run(["start"]).succeeds();
        let token = home.token(ALL);
        let session = sign_in(&home, &token);
        home.run(["stop"]).succeeds();
        let key = match secret {
            Some(_) => "unchanged",
            None => "replaced",
        };
        home.run(["token", "--revoke-all"])
            .succeeds()
            .stdout_contains(&["All tokens are revoked", "No daemon is running", key]);
        home.run(["start"]).succeeds();
        assert_eq!(call(&home, &token).status, 401);
        assert_accepted(&home, &home.token(ALL));
        // Nor does the log stream accept the old ticket.
        let session = session.with_current_port(&home);
        let path = format!("/admin/logs/stream?ticket={}", session.ticket);
        let headers = [("Cookie", session.cookie.as_str())];
        let answer = crate::support::request(&home.admin_address(), "GET", &path, &headers, "");
        assert_eq!(answer.status, 401);
    }
}

/// It is unknown then whether the program generated the key.
#[test]
fn invalid_key_setting_keeps_command_from_revoking_all() {
    let home = Home::started();
    home.run(["stop"]).succeeds();
    home.write_env("JWT_SECRET_KEY=short\n");
    home.run(["token", "--revoke-all"])
        .exits(2)
        .stderr_contains(&["JWT_SECRET_KEY"]);
    assert!(!super::file(&home).exists());
}

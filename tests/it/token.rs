//! `fullon token` prints a valid token or none.

use std::fs;

use crate::doctor::{as_nobody, home_of_nobody};
use crate::support::{Home, Outcome, running_as_root};

/// The home of another user that refers to the daemon of `home`.
fn home_referring_to(home: &Home) -> Home {
    let mut other = Home::new();
    other.set("PID_FILE", &home.pid_file().display().to_string());
    other
}

#[track_caller]
fn assert_no_token(home: &Home, expected: &[&str]) {
    let outcome = home.run(["token"]).exits(1).stderr_contains(expected);
    assert_eq!(outcome.stdout, "");
    assert!(!home.path().join(".fullon_master_api.key").exists());
}

#[test]
fn token_that_daemon_would_refuse_is_not_made() {
    let home = Home::started();
    let mut other = home_referring_to(&home);
    assert_no_token(
        &other,
        &[
            "cannot create a token that the running daemon accepts",
            ".key cannot be read",
            "set JWT_SECRET_KEY",
        ],
    );
    let key = other
        .path()
        .join(".fullon_master_api.key")
        .display()
        .to_string();
    other.run(["doctor"]).succeeds().stdout_contains(&[
        &format!("{key} does not exist although the daemon is running"),
        "set JWT_SECRET_KEY",
    ]);
    other.set(
        "JWT_SECRET_KEY",
        "another-secret-that-is-long-enough-to-be-one",
    );
    assert_no_token(&other, &["signed with another key", "fullon reload"]);
    // For the daemons of another machine.
    other.run(["--pid-file", "pods.pid", "token"]).succeeds();
    other.run(["doctor"]).succeeds().stdout_contains(&[
        "the running daemon rejects tokens",
        "set JWT_SECRET_KEY to the daemon's signing key",
    ]);
    let json = other.run(["--json", "token"]).exits(1).json();
    assert!(json["error"].is_string(), "{json}");
    let key = fs::read_to_string(home.path().join(".fullon_master_api.key")).unwrap();
    other.set("JWT_SECRET_KEY", key.trim());
    other.run(["token"]).succeeds();

    other.unset("JWT_SECRET_KEY");
    home.run(["stop"]).succeeds();
    other.run(["token"]).succeeds();
}

#[test]
fn user_with_valid_key_is_named() {
    if !running_as_root("user_with_valid_key_is_named") {
        return;
    }
    let home = home_of_nobody();
    Outcome::run(&mut as_nobody(&home, &["start"])).succeeds();
    let expected = "sudo -u nobody -H fullon token";
    assert_no_token(&home_referring_to(&home), &[expected]);
    home_referring_to(&home)
        .run(["doctor"])
        .stdout_contains(&[expected]);
    Outcome::run(&mut as_nobody(&home, &["token"])).succeeds();
}

#[test]
fn removed_key_file_is_made_again_by_restart() {
    let home = Home::started();
    let key = home.path().join(".fullon_master_api.key");
    fs::remove_file(&key).unwrap();
    let shown = key.display().to_string();
    let next = "restore the file, or create a new key with `fullon restart`";
    home.run(["reload"])
        .exits(2)
        .stderr_contains(&[&shown, next]);
    home.run(["doctor"]).succeeds().stdout_contains(&[
        "does not exist although the daemon is running",
        "`fullon restart` creates",
    ]);
    assert_no_token(&home, &["`fullon restart` creates"]);
    home.run(["restart"]).succeeds();
    home.run(["reload"]).succeeds();
    home.run(["token"]).succeeds();
}

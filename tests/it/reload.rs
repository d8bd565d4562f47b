//! Changing settings in place: all of them, or none.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::jwt::made_up_secret;
use crate::support::{Home, eventually};

/// A daemon whose settings are in `.env`, so that they can be edited.
fn start_with_env_file(text: &str) -> Home {
    let mut home = Home::new();
    home.unset("PORT");
    write_settings(&home, text);
    home.run(["start"]).succeeds();
    home
}

fn write_settings(home: &Home, text: &str) {
    home.write_env(&format!("PORT=0\n{text}"));
}

fn status(home: &Home) -> Value {
    home.call_admin("GET", "/admin/status").json()
}

fn setting_value(home: &Home, name: &str) -> Value {
    let config = home.call_admin("GET", "/admin/config").json();
    let entries = config.as_array().unwrap();
    let found = entries.iter().find(|entry| entry["name"] == name);
    found.unwrap()["value"].clone()
}

#[test]
fn reloadable_settings_apply_and_the_rest_is_reported() {
    let home = start_with_env_file("LOG_LEVEL=INFO\n");
    let before = status(&home);
    assert_eq!(before["pending_restart"], json!([]));
    write_settings(
        &home,
        "LOG_LEVEL=DEBUG\nLOG_FORMAT=json\nSHUTDOWN_TIMEOUT=3s\nDB_PASSWORD=hunter2\n",
    );
    assert_eq!(
        status(&home)["pending_restart"],
        json!(["LOG_LEVEL", "LOG_FORMAT", "SHUTDOWN_TIMEOUT", "DB_PASSWORD"])
    );

    home.run(["reload"]).succeeds().stdout_contains(&[
        "Settings reloaded\n",
        "  LOG_LEVEL: INFO -> DEBUG\n",
        "  SHUTDOWN_TIMEOUT: 10s -> 3s\n",
        "  DB_PASSWORD: not set -> ******\n",
        "Not active until `fullon restart`:\n  LOG_FORMAT: text -> json\n",
    ]);
    let after = status(&home);
    assert_eq!(after["pid"], before["pid"]);
    assert_eq!(after["log_level"], "debug");
    assert_eq!(after["pending_restart"], json!(["LOG_FORMAT"]));
    assert_eq!(setting_value(&home, "SHUTDOWN_TIMEOUT"), "3s");
    assert_eq!(setting_value(&home, "LOG_FORMAT"), "text");
    crate::support::request(&home.public_address(), "GET", "/health/live", &[], "");
    eventually("probes are logged", || {
        home.log().contains("path=\"/health/live\"")
    });
    assert!(!home.log().contains("hunter2"));

    let again = home.call_admin("POST", "/admin/reload").json();
    let pending = json!({ "name": "LOG_FORMAT", "from": "text", "to": "json" });
    assert_eq!(again, json!({ "changed": [], "needs_restart": [pending] }));
    let reload = || home.run(["reload"]).succeeds();
    reload().stdout_contains(&["Settings reloaded: all changes need a restart\n"]);
    home.run(["restart"]).succeeds();
    reload().stdout_contains(&["Settings reloaded: nothing has changed\n"]);
    assert_eq!(status(&home)["pending_restart"], json!([]));
    assert!(home.log().lines().any(|line| line.starts_with('{')));
}

#[test]
fn invalid_file_changes_nothing_and_reports_every_problem() {
    let home = start_with_env_file("LOG_LEVEL=INFO\n");
    write_settings(
        &home,
        "LOG_LEVEL=DEBUG\nLOG_KEEP=many\nADMIN_HOST=0.0.0.0\n",
    );
    let answer = home.call_admin("POST", "/admin/reload");
    answer.assert_problem(422, "LOG_KEEP");
    let errors = answer.json()["errors"].clone();
    let names: Vec<_> = errors
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["setting"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["ADMIN_HOST", "LOG_KEEP"]);
    home.run(["reload"]).exits(2).stderr_contains(&[
        "ADMIN_HOST",
        "LOG_KEEP",
        "Nothing has changed",
    ]);
    assert_eq!(status(&home)["log_level"], "info");

    home.daemon()
        .unwrap()
        .send_signal(rustix::process::Signal::HUP)
        .unwrap();
    eventually("the failed reload is logged", || {
        home.log()
            .contains("reload failed; nothing has changed by=\"SIGHUP\"")
    });
    assert_eq!(status(&home)["log_level"], "info");
}

#[test]
fn sighup_reloads() {
    let home = start_with_env_file("LOG_LEVEL=INFO\n");
    write_settings(&home, "LOG_LEVEL=WARN\n");
    home.daemon()
        .unwrap()
        .send_signal(rustix::process::Signal::HUP)
        .unwrap();
    eventually("the level is active", || {
        status(&home)["log_level"] == "warn"
    });
    let audit = "audit: action=\"reload\" outcome=\"accepted\" subject=\"SIGHUP\"";
    eventually("it is audited", || home.log().contains(audit));
}

#[test]
fn rotation_follows_reloaded_settings() {
    let home = start_with_env_file("LOG_MAX_SIZE=0\n");
    let rotated = |number: u32| home.path().join(format!("fullon.log.{number}"));
    let fill = || {
        for _ in 0..600 {
            home.log_request(&"m".repeat(100));
        }
    };
    fill();
    assert!(home.log().len() > 64 * 1024 && !rotated(1).exists());
    write_settings(&home, "LOG_MAX_SIZE=64KiB\nLOG_KEEP=1\n");
    home.run(["reload"]).succeeds();
    fill();
    eventually("the log is rotated", || rotated(1).exists());
    fill();
    assert!(!rotated(2).exists());
}

#[test]
fn new_secret_is_valid_at_once_and_old_one_for_grace_period() {
    let [old, new, newest] = ["old", "new", "newest"].map(made_up_secret);
    let home = start_with_env_file(&format!("JWT_SECRET_KEY={old}\n"));
    let ask = |token: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [("Authorization", bearer.as_str())];
        crate::support::request(&home.admin_address(), "GET", "/admin/status", &headers, "").status
    };
    let token = home.token("admin:read");
    assert_eq!(ask(&token), 200);
    write_settings(&home, &format!("JWT_SECRET_KEY={new}\n"));
    home.run(["reload"]).succeeds().stdout_contains(&[
        "JWT_SECRET_KEY: ****** -> ******",
        "The previous key is valid until 20",
    ]);
    let next = home.token("admin:read");
    assert_eq!((ask(&token), ask(&next)), (200, 200));

    // A session made with the old token does not outlive the grace period.
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", bearer.as_str())];
    let session = crate::support::request(
        &home.admin_address(),
        "POST",
        "/admin/session",
        &headers,
        "",
    );
    let expires_at: jiff::Timestamp = session.json()["expires_at"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let minutes = expires_at.duration_since(jiff::Timestamp::now()).as_mins();
    assert!(minutes < 10, "{minutes}");
    // The grace period can be ended early.
    write_settings(
        &home,
        &format!("JWT_SECRET_KEY={new}\nJWT_SECRET_KEY_GRACE=0\n"),
    );
    home.run(["reload"]).succeeds();
    assert_eq!((ask(&token), ask(&next)), (401, 200));

    write_settings(
        &home,
        &format!("JWT_SECRET_KEY={newest}\nJWT_SECRET_KEY_GRACE=300ms\n"),
    );
    home.run(["reload"]).succeeds();
    eventually("the second key expires", || ask(&next) == 401);
    assert_eq!(ask(&home.token("admin:read")), 200);
    write_settings(
        &home,
        &format!("JWT_SECRET_KEY={old}\nJWT_SECRET_KEY_GRACE=0\n"),
    );
    let last = home.token("admin:read");
    let reloaded = home.run(["reload"]).succeeds();
    assert!(
        !reloaded.stdout.contains("valid until"),
        "{}",
        reloaded.stdout
    );
    assert_eq!((ask(&last), ask(&token)), (200, 200));
    assert_eq!(ask(&next), 401);
}

#[test]
fn reload_fails_when_nothing_runs() {
    let home = Home::new();
    home.run(["reload"])
        .exits(1)
        .stderr_contains(&["not running"]);
    assert!(!Path::new(&home.pid_file()).exists());
}

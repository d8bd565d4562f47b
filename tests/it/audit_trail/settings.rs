//! The file that `AUDIT_FILE` may name.

use std::fs::{self};
use std::os::unix::fs::symlink;

use serde_json::Value;

use super::{audit_file, is_intact};
use crate::support::Home;

#[test]
fn unusable_audit_file_is_refused() {
    let mut home = Home::new();
    let target = home.path().join("target");
    fs::write(&target, "").unwrap();
    symlink(&target, audit_file(&home)).unwrap();
    home.run(["start"]).exits(1).stderr_contains(&[
        "audit file",
        "is a symbolic link",
        "AUDIT_FILE",
    ]);
    home.run(["doctor"]).exits(1).stdout_contains(&[
        "ERROR    audit trail",
        "is a symbolic link",
        "the daemon does not start",
    ]);
    fs::remove_file(audit_file(&home)).unwrap();
    let log = home.log_file().display().to_string();
    home.set("AUDIT_FILE", &log);
    home.run(["start"])
        .exits(2)
        .stderr_contains(&["AUDIT_FILE: is the same file as LOG_FILE"]);
}

/// A record in the key file would change the key, and one in the state file would end a restart.
#[test]
fn audit_file_with_another_purpose_is_refused() {
    let mut home = Home::new();
    home.token("admin:read");
    let directory = home.path().display().to_string();
    let name = home
        .path()
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    fs::hard_link(
        home.path().join(".fullon_master_api.key"),
        home.path().join("link"),
    )
    .unwrap();
    let log = format!("{directory}/../{name}/fullon.log");
    let cases = [
        ("AUDIT_FILE", ".fullon_master_api.key", "the key file"),
        ("AUDIT_FILE", "link", "the key file"),
        ("AUDIT_FILE", ".fullon_master_api.revoked", "revoked tokens"),
        ("AUDIT_FILE", ".fullon_master_api.pid", "PID_FILE"),
        (
            "AUDIT_FILE",
            ".fullon_master_api.pid.state",
            "the state file",
        ),
        ("AUDIT_FILE", ".env", ".env"),
        ("AUDIT_FILE", "fullon.log.1", "a rotated file of LOG_FILE"),
        ("AUDIT_FILE", "fullon.log.new", "a rotated file of LOG_FILE"),
        ("AUDIT_FILE", &log, "LOG_FILE"),
        ("AUDIT_FILE", "-", "`-` is stdout, but a file is needed"),
        ("LOG_FILE", ".fullon_master_api.key", "the key file"),
        ("LOG_FILE", ".fullon_master_api.pid.state", "the state file"),
        ("PID_FILE", ".fullon_master_api.key", "the key file"),
        (
            "PID_FILE",
            "fullon.log.audit.2",
            "a rotated file of AUDIT_FILE",
        ),
    ];
    let defaults = [("LOG_FILE", home.log_file()), ("PID_FILE", home.pid_file())];
    for (setting, value, reason) in cases {
        home.unset("AUDIT_FILE");
        for (name, path) in &defaults {
            home.set(name, path.to_str().unwrap());
        }
        home.run(["config", "--check"]).succeeds();
        home.set(setting, value);
        for command in [&["start"][..], &["config", "--check"]] {
            let outcome = home.run(command.iter().copied()).exits(2);
            outcome.stderr_contains(&[setting, reason]);
        }
        home.run(["doctor"])
            .exits(2)
            .stdout_contains(&[setting, reason]);
    }
}

#[test]
fn without_log_file_there_is_no_audit_file_unless_it_is_set() {
    let mut home = Home::new();
    home.set("LOG_FILE", "-");
    let run = |home: &Home| {
        let daemon = crate::support::run_foreground(home);
        home.run(["reload"]).succeeds();
        daemon
    };
    let daemon = run(&home);
    home.run(["audit"])
        .exits(1)
        .stderr_contains(&["there is no audit file: set AUDIT_FILE"]);
    let response = home.call_admin("GET", "/admin/audit");
    response.assert_problem(409, "there is no audit file: set AUDIT_FILE");
    let status = home.call_admin("GET", "/admin/status").json();
    assert_eq!(status["audit"], Value::Null);
    home.run(["stop"]).succeeds();
    drop(daemon);
    let file = home.path().join("changes").display().to_string();
    home.set("AUDIT_FILE", &file);
    let daemon = run(&home);
    home.run(["audit"])
        .succeeds()
        .stdout_contains(&[" reload "]);
    assert_eq!(is_intact(&home)["records"], 1);
    home.run(["stop"]).succeeds();
    drop(daemon);
    home.unset("AUDIT_FILE");
    home.unset("LOG_FILE");
    home.set("LOG_FILE", home.log_file().to_str().unwrap());
    home.run(["audit"])
        .exits(1)
        .stderr_contains(&["fullon.log.audit does not exist"]);
}

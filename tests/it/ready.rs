//! `fullon status --ready`, the health check of containers.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::support::{Home, eventually, free_port, request};

/// Checks that the command fails with one line that contains `reason`.
#[track_caller]
fn assert_not_ready(home: &Home, reason: &str) {
    let start = Instant::now();
    let outcome = home.run(["status", "--ready"]).exits(1);
    assert!(start.elapsed() < Duration::from_secs(5), "{outcome:#?}");
    assert!(
        outcome.stdout.starts_with("Not ready: ") && outcome.stdout.contains(reason),
        "{outcome:#?}"
    );
    assert_eq!(outcome.stdout.lines().count(), 1, "{outcome:#?}");
    let json = home.run(["--json", "status", "--ready"]).exits(1).json();
    assert_eq!(json["ready"], false);
    let shown = json["reason"].as_str().unwrap();
    assert!(shown.contains(reason), "{json}");
}

#[test]
fn ready_daemon_is_ready_also_after_restart() {
    let home = Home::started();
    for _ in 0..2 {
        let outcome = home.run(["status", "--ready"]).succeeds();
        assert_eq!(
            (outcome.stdout.as_str(), outcome.stderr.as_str()),
            ("Ready\n", "")
        );
        home.run(["restart"]).succeeds();
    }
    let json = home.run(["status", "--ready", "--json"]).succeeds().json();
    assert_eq!(
        (&json["ready"], &json["reason"], &json["phase"]),
        (&json!(true), &json!(null), &json!("ready"))
    );
}

#[test]
fn stopped_or_killed_daemon_is_not_ready() {
    let home = Home::new();
    assert_not_ready(&home, "not running");
    home.run(["start"]).succeeds();
    let daemon = home.daemon().unwrap();
    daemon.kill().unwrap();
    assert!(daemon.wait_for_exit(Duration::from_secs(10)));
    assert_not_ready(&home, "dead");
}

#[test]
fn hanging_daemon_is_not_ready() {
    let home = Home::started();
    home.daemon().unwrap().send_signal(Signal::STOP).unwrap();
    assert_not_ready(&home, "no answer within");
}

#[test]
fn draining_daemon_is_not_ready() {
    let mut home = Home::new();
    home.set("DRAIN_DELAY", "5m");
    home.run(["start"]).succeeds();
    let public = home.public_address();
    home.daemon().unwrap().terminate().unwrap();
    eventually("health turns 503", || {
        request(&public, "GET", "/health", &[], "").status == 503
    });
    assert_not_ready(&home, "draining");
    home.run(["status"])
        .succeeds()
        .stdout_contains(&["Status:    Running (draining)\n"]);
}

#[test]
fn daemon_with_closed_port_is_not_ready() {
    let home = Home::started();
    let public = home.public_address();
    let _request = home.unfinished_request();
    home.daemon().unwrap().terminate().unwrap();
    eventually("the public port is closed", || {
        std::net::TcpStream::connect(&public).is_err()
    });
    assert_not_ready(&home, &public);
}

#[test]
fn failed_checks_are_named_in_their_order() {
    let mut home = Home::new();
    let port = free_port().to_string();
    for (name, value) in [
        ("REDIS_HOST", "127.0.0.1"),
        ("REDIS_PORT", &port),
        ("DB_NAME", "app"),
        ("DB_HOST", "127.0.0.1"),
        ("DB_PORT", &port),
    ] {
        home.set(name, value);
    }
    home.run(["start"]).succeeds();
    let status = "Status:    Running (unhealthy: postgresql, redis)\n";
    eventually("both checks have failed", || {
        home.run(["status"]).succeeds().stdout.contains(status)
    });
    assert_not_ready(&home, "postgresql is down (");
    assert_not_ready(&home, "; redis is down (");
    let json = home.run(["--json", "status", "--ready"]).exits(1).json();
    assert_eq!(json["checks"][1]["name"], "redis");
}

/// Without a state file the configured address is used.
#[test]
fn unreadable_state_file_needs_the_configured_port() {
    let mut home = Home::new();
    let port = free_port().to_string();
    home.set("PORT", &port);
    home.run(["start"]).succeeds();
    let mut state = home.pid_file().into_os_string();
    state.push(".state");
    std::fs::remove_file(state).unwrap();
    home.run(["status", "--ready"]).succeeds();
    home.set("PORT", "0");
    assert_not_ready(&home, "PORT=0");
}

#[test]
fn another_machine_cannot_be_checked() {
    let home = Home::new();
    home.run(["--admin-url", "http://127.0.0.1:1", "status", "--ready"])
        .exits(2)
        .stderr_contains(&["--ready", "--admin-url"]);
}

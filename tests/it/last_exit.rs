//! A daemon reports how the one before it ended.

use fullon_master_api::sys::Process;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::{Connection, DEADLINE, Home, eventually};

fn status(home: &Home) -> Value {
    home.call_admin("GET", "/admin/status").json()
}

/// The running daemon reports this exit of the one before it.
#[track_caller]
fn assert_last_exit(home: &Home, old: &Process, cause: &str, by: Option<&str>, last_line: &str) {
    let exit = status(home)["last_exit"].clone();
    assert_eq!(
        (&exit["cause"], &exit["pid"]),
        (&cause.into(), &old.pid().into()),
        "{exit:#}"
    );
    if let Some(by) = by {
        assert_eq!(exit["by"], by, "{exit:#}");
    }
    let at: &str = exit["at"].as_str().unwrap_or_else(|| panic!("{exit:#}"));
    let now = std::time::SystemTime::now();
    let at: std::time::SystemTime = humantime::parse_rfc3339_weak(at).unwrap();
    assert!(now.duration_since(at).unwrap() < 4 * DEADLINE, "{exit:#}");
    let lines = exit["last_lines"].as_array().unwrap();
    assert!((1..=10).contains(&lines.len()), "{exit:#}");
    let text = exit["last_lines"].to_string();
    assert!(text.contains(last_line), "no `{last_line}` in {exit:#}");
}

#[test]
fn first_daemon_reports_no_last_exit() {
    let home = Home::started();
    let status = status(&home);
    assert_eq!(status["last_exit"], Value::Null);
    assert_eq!(status["generation"], 1);
}

#[test]
fn stop_over_rest_is_reported_with_subject() {
    let home = Home::started();
    let old = home.daemon().unwrap();
    let token = home.token("admin:control");
    let subject = home.run(["token", "--json"]).succeeds().json()["subject"].clone();
    let mut connection = Connection::open(&home.admin_address());
    let bearer = format!("Bearer {token}");
    connection.send("POST", "/admin/stop", &[("Authorization", &bearer)], "");
    assert_eq!(connection.read_response("POST").status, 202);
    assert!(old.wait_for_exit(DEADLINE));
    home.run(["start"]).succeeds();
    assert_last_exit(&home, &old, "stopped", subject.as_str(), " stopped");
    assert_eq!(status(&home)["generation"], 1);

    let old = home.daemon().unwrap();
    home.run(["stop"]).succeeds();
    home.run(["start"]).succeeds();
    assert_last_exit(&home, &old, "stopped", None, " stopped");
}

#[test]
fn stop_by_signal_is_reported() {
    let home = Home::started();
    let old = home.daemon().unwrap();
    old.terminate().unwrap();
    assert!(old.wait_for_exit(DEADLINE));
    home.run(["start"]).succeeds();
    assert_last_exit(&home, &old, "signalled", Some("SIGTERM"), " stopped");
}

#[test]
fn forced_stop_by_second_signal_is_reported() {
    let home = Home::started();
    let old = home.daemon().unwrap();
    let _request = home.unfinished_request();
    old.terminate().unwrap();
    eventually("the daemon drains", || home.log().contains(" stopping by="));
    kill(Pid::from_raw(old.pid().cast_signed()), Signal::SIGTERM).unwrap();
    assert!(old.wait_for_exit(DEADLINE));
    home.run(["start"]).succeeds();
    assert_last_exit(&home, &old, "interrupted", Some("SIGTERM"), "second signal");
}

#[test]
fn crash_is_reported_with_last_log_lines() {
    let home = Home::started();
    let old = home.daemon().unwrap();
    home.log_request("the-last-words");
    eventually("the line is logged", || {
        home.log().contains("the-last-words")
    });
    old.kill().unwrap();
    assert!(old.wait_for_exit(DEADLINE));
    home.run(["start"]).succeeds();
    assert_last_exit(&home, &old, "crashed", None, "the-last-words");
    let exit = &status(&home)["last_exit"];
    assert_eq!(exit.get("by"), None, "a crash has no requester: {exit:#}");
    let shown = home.run(["status"]).succeeds().stdout;
    let (_, after) = shown.split_once("crashed").unwrap();
    let is_last = |line: &str| line.starts_with("  ") && line.contains("the-last-words");
    assert!(after.lines().any(is_last), "{shown}");

    // The crash is not reported a second time.
    let old = home.daemon().unwrap();
    home.run(["stop"]).succeeds();
    home.run(["start"]).succeeds();
    assert_last_exit(&home, &old, "stopped", None, " stopped");
}

#[test]
fn restart_is_reported() {
    let home = Home::started();
    let old = home.daemon().unwrap();
    home.log_request("before-the-restart");
    eventually("the line is logged", || {
        home.log().contains("before-the-restart")
    });
    home.restart();
    assert_last_exit(&home, &old, "restarted", None, "before-the-restart");
    assert_eq!(status(&home)["generation"], 2);

    let old = home.daemon().unwrap();
    old.kill().unwrap();
    assert!(old.wait_for_exit(DEADLINE));
    home.run(["start"]).succeeds();
    assert_last_exit(&home, &old, "crashed", None, "");
    assert_eq!(status(&home)["generation"], 1);
}

//! Additional lines of `fullon status`.

use serde_json::json;

use crate::support::{Home, eventually};

/// A daemon whose settings are in `.env`, so that they can be edited.
fn start_with_env_file() -> Home {
    let mut home = Home::new();
    home.unset("PORT");
    home.write_env("PORT=0\n");
    home.run(["start"]).succeeds();
    home
}

#[track_caller]
fn labelled_lines(home: &Home, label: &str) -> Vec<String> {
    let shown = home.run(["status"]).succeeds().stdout;
    let lines = shown.lines().filter_map(|line| line.strip_prefix(label));
    lines.map(|line| line.trim().to_owned()).collect()
}

#[test]
fn pending_settings_are_shown_with_command_to_apply_them() {
    let home = start_with_env_file();
    assert!(labelled_lines(&home, "Pending:").is_empty());
    home.write_env("PORT=0\nLOG_KEEP=7\n");
    let reload = "LOG_KEEP changed in .env, not active until `fullon reload`";
    assert_eq!(labelled_lines(&home, "Pending:"), [reload]);
    home.write_env("PORT=0\nLOG_KEEP=7\nIDLE_TIMEOUT=60s\nMAX_CONNECTIONS=9\n");
    let restart =
        "IDLE_TIMEOUT, MAX_CONNECTIONS changed in .env, not active until `fullon restart`";
    assert_eq!(labelled_lines(&home, "Pending:"), [reload, restart]);
    home.write_env("PORT=99999\nLOG_KEEP=7\n");
    let pending = labelled_lines(&home, "Pending:");
    assert_eq!(pending.len(), 2, "{pending:#?}");
    for word in ["PORT: `99999`", "fix it", "`fullon config --check`"] {
        assert!(pending[0].contains(word), "{pending:#?}");
    }
    assert_eq!(pending[1], reload);
}

#[test]
fn temporary_log_level_is_shown_with_its_end() {
    let home = start_with_env_file();
    assert!(labelled_lines(&home, "Log Level:").is_empty());
    let set = |body: String| home.call_admin_with("PUT", "/admin/log-level", &body);
    set(json!({"level": "debug", "revert_after_seconds": 600}).to_string());
    let shown = labelled_lines(&home, "Log Level:");
    assert!(
        shown.len() == 1
            && shown[0].starts_with("debug until 20")
            && shown[0].ends_with("Z, then info"),
        "{shown:#?}"
    );
    set(json!({"level": "trace"}).to_string());
    let shown = labelled_lines(&home, "Log Level:");
    assert!(shown[0].starts_with("trace until a restart"), "{shown:#?}");
    set(json!({"level": "info"}).to_string());
    assert!(labelled_lines(&home, "Log Level:").is_empty());
    // A setting that was only edited is pending, and not shown as the level.
    home.write_env("PORT=0\nLOG_LEVEL=debug\n");
    assert!(labelled_lines(&home, "Log Level:").is_empty());
}

#[test]
fn start_while_stopping_is_explained() {
    let home = Home::started();
    let daemon = home.daemon().unwrap();
    let _request = home.unfinished_request();
    home.run(["start"])
        .exits(1)
        .stderr_contains(&["already running"]);
    daemon.terminate().unwrap();
    eventually("the listener is closed", || {
        std::net::TcpStream::connect(home.admin_address()).is_err()
    });
    let pid = format!("with PID {}", daemon.pid());
    home.run(["start"]).exits(1).stderr_contains(&[
        "is stopping",
        &pid,
        "SHUTDOWN_TIMEOUT",
        "`fullon restart --hard`",
    ]);
    assert!(!daemon.has_exited());
    home.run(["restart", "--hard"]).succeeds();
    assert!(daemon.has_exited());
}

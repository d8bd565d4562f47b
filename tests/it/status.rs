//! Additional lines of `fullon status`.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use serde_json::json;

use crate::doctor::{as_nobody, home_of_nobody};
use crate::support::{Home, Outcome, eventually, running_as_root, spawn};

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

#[test]
fn bound_addresses_are_shown() {
    let mut home = Home::new();
    home.set("HOST", "0.0.0.0");
    home.run(["start"]).succeeds();
    let server = home.public_address();
    let bound = server.replace("127.0.0.1", "0.0.0.0");
    assert_ne!(server, bound);
    assert_eq!(
        labelled_lines(&home, "Server:"),
        [format!("http://{server}")]
    );
    assert_eq!(
        labelled_lines(&home, "Listening:"),
        std::slice::from_ref(&bound)
    );
    let status = home.run(["status", "--json"]).succeeds().json();
    assert_eq!(status["status"]["listens_on"], json!([bound]));
    // Nothing else than the address of `Server`.
    assert!(labelled_lines(&Home::started(), "Listening:").is_empty());
}

#[test]
fn root_is_warned() {
    if !running_as_root("root_is_warned") {
        return;
    }
    let warning = ["runs as root", "a user of its own"];
    let home = Home::new();
    home.run(["start"]).succeeds().stderr_contains(&warning);
    home.run(["status"]).succeeds().stdout_contains(&warning);
    home.run(["doctor"]).succeeds().stdout_contains(&warning);
    home.run(["stop"]).succeeds();
    let mut child = spawn(home.fullon(["run"]).stderr(Stdio::piped()));
    let mut line = String::new();
    let mut stderr = BufReader::new(child.0.stderr.take().unwrap());
    stderr.read_line(&mut line).unwrap();
    assert!(line.contains("warning: daemon: runs as root"), "{line}");
    // Neither another user, nor one who is root in a user namespace, has the rights of root.
    for namespace in [&[][..], &["unshare", "--user", "--map-root-user"]] {
        let home = home_of_nobody();
        let run = |command: &str| {
            let nobody = as_nobody(&home, &[command]);
            let mut arguments: Vec<_> = nobody.get_args().collect();
            arguments.splice(5..5, namespace.iter().map(std::ffi::OsStr::new));
            let mut command = home.command(nobody.get_program());
            Outcome::run(command.args(arguments)).succeeds()
        };
        for command in ["start", "status", "doctor"] {
            let outcome = run(command);
            for text in [&outcome.stdout, &outcome.stderr] {
                assert!(!text.contains("runs as root"), "{outcome:#?}");
            }
        }
    }
}

//! Findings about the admin and public API, or another server in their place.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use fullon_master_api::instance::StateFile;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::{Expected, assert_doctor_finds, assert_findings, fix_admin_port, port_of, subjects};
use crate::support::{FakeApi, Home, Outcome, eventually, running_as_root};

#[test]
fn suspended_daemon_is_reported_and_left_alone() {
    let home = Home::started();
    let daemon = home.daemon().unwrap();
    suspend(daemon.pid());
    let advice = format!("kill -CONT {}", daemon.pid());
    let words = ["no answer within 2s", "is suspended", &*advice];
    assert_doctor_finds(
        &home,
        1,
        &[
            ("admin API", "error", &words),
            ("public API", "error", &words),
        ],
    );
    assert!(daemon.is_suspended());
}

/// Waits until every thread is stopped: a running one could still respond.
fn suspend(pid: u32) {
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGSTOP).unwrap();
    eventually("all threads are stopped", || {
        let mut threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        threads.all(|thread| {
            let status = fs::read_to_string(thread.unwrap().path().join("status"));
            status.is_ok_and(|status| status.contains("\nState:\tT"))
        })
    });
}

#[test]
fn closed_admin_port_is_reported() {
    let home = Home::started();
    let daemon = home.daemon().unwrap();
    let _unfinished = home.unfinished_request();
    daemon.terminate().unwrap();
    eventually("the listener is closed", || {
        TcpStream::connect(home.admin_address()).is_err()
    });
    let words = [
        "Connection refused",
        "is running",
        "unless the process is starting or stopping",
    ];
    assert_doctor_finds(
        &home,
        1,
        &[
            ("admin API", "error", &words),
            ("public API", "error", &words),
        ],
    );
}

#[test]
fn blocked_network_is_reported() {
    if !running_as_root("blocked_network_is_reported") {
        return;
    }
    let home = Home::started();
    let mut command = home.command("unshare");
    command.args(["--net", env!("CARGO_BIN_EXE_fullon"), "doctor", "--json"]);
    let words = [
        "cannot be reached",
        "is running",
        "or the network is blocked",
    ];
    assert_findings(
        &Outcome::run(&mut command),
        1,
        &[
            ("admin API", "error", &words),
            ("public API", "error", &words),
        ],
    );
}

const NO_STATE_FILE: [Expected<'_>; 2] = [
    (
        "state file",
        "warning",
        &["No such file", "`fullon restart --hard` writes a new one"],
    ),
    (
        "admin API",
        "error",
        &["unknown without a usable state file", "--admin-url"],
    ),
];

/// No request is sent to the configured address.
#[test]
fn without_state_file_address_is_unknown() {
    let mut home = Home::started();
    fix_admin_port(&mut home);
    fs::remove_file(StateFile::path(&home.pid_file())).unwrap();
    home.set("PORT", "0");
    assert_doctor_finds(&home, 1, &NO_STATE_FILE);
}

#[test]
fn other_server_on_admin_port_is_named() {
    let home = Home::started();
    let (public, daemon) = (home.public_address(), home.daemon().unwrap().describe());
    let url = format!("http://{public}");
    assert_findings(
        &home.run(["--admin-url", &url, "doctor", "--json"]),
        1,
        &[(
            "admin API",
            "error",
            &["is not the admin API", &daemon, "ADMIN_PORT"],
        )],
    );
}

#[test]
fn other_server_on_public_port_is_named() {
    let mut home = Home::started();
    fix_admin_port(&mut home);
    fs::remove_file(StateFile::path(&home.pid_file())).unwrap();
    home.set("PORT", port_of(&serve_always("200 OK", "{}")));
    let own_process = format!("(PID {}) listens there", std::process::id());
    assert_doctor_finds(
        &home,
        1,
        &[
            NO_STATE_FILE[0],
            NO_STATE_FILE[1],
            (
                "public API",
                "error",
                &["is not the public API", &own_process, "set HOST and PORT"],
            ),
        ],
    );
}

#[test]
fn phase_version_and_failed_checks_are_reported() {
    let home = Home::started();
    let healthy = home.call_admin("GET", "/admin/status").json();
    let saying = |field: &str, value: Value| {
        let mut status = healthy.clone();
        status[field] = value;
        let url = format!("http://{}", serve_with_key(&home, &status.to_string()));
        home.run(["--admin-url", &url, "doctor", "--json"])
    };
    assert_findings(&saying("phase", json!("ready")), 0, &[]);
    for (phase, words) in [("draining", "draining: "), ("starting", "starting")] {
        let words = [words, "fullon status"];
        assert_findings(
            &saying("phase", json!(phase)),
            0,
            &[("daemon", "warning", &words)],
        );
    }
    assert_findings(
        &saying("version", json!("0.9.9")),
        0,
        &[("daemon", "warning", &["version 0.9.9", "fullon restart"])],
    );
    let down = json!([{ "name": "redis", "state": "down", "last_error": "nobody\nlistens" }]);
    let outcome = saying("checks", down);
    assert_findings(
        &outcome,
        1,
        &[("health", "error", &["redis is down: nobody\nlistens"])],
    );
}

#[test]
fn explicit_address_skips_local_checks() {
    let home = Home::started();
    let outcome = home.run(["--admin-url", "http://127.0.0.1:1", "doctor", "--json"]);
    assert_findings(
        &outcome,
        1,
        &[("admin API", "error", &["Connection refused", "the tunnel"])],
    );
    assert_eq!(
        subjects(&outcome),
        ["settings", ".env", "signing key", "admin API"]
    );
    home.run(["--admin-url", "ftp://x", "doctor"])
        .exits(2)
        .stderr_contains(&["--admin-url"]);
}

#[test]
fn daemon_of_another_directory_is_checked_there() {
    let mut home = Home::new();
    let there = home.path().join("there");
    fs::create_dir(&there).unwrap();
    fs::write(there.join(".env"), "LOG_FILE=daemon.log\nLOG_KEEP=1\n").unwrap();
    home.unset("LOG_FILE");
    home.unset("PORT");
    let mut start = home.fullon(["--port", "0", "start"]);
    Outcome::run(start.current_dir(&there)).succeeds();
    home.set("PORT", "0");
    home.set("LOG_FILE", "nowhere/fullon.log");
    assert_doctor_finds(&home, 0, &[]);
    let log = there.join("daemon.log").display().to_string();
    home.run(["doctor"]).succeeds().stdout_contains(&[&log]);

    // A restart reads the settings file that the daemon was started with.
    fs::write(there.join(".env"), "LOG_FILE=daemon.log\nLOG_KEEP=x\n").unwrap();
    let edit = format!("edit {}", there.join(".env").display());
    let words = ["a restart would fail: LOG_KEEP: `x`", &*edit];
    assert_doctor_finds(&home, 2, &[("restart", "error", &words)]);

    fs::write(there.join(".env"), "LOG_FILE=daemon.log\nLOG_KEEP=1\n").unwrap();
    let daemon = home.daemon().unwrap();
    suspend(daemon.pid());
    home.run(["doctor"]).exits(1).stdout_contains(&[&log]);
    kill(Pid::from_raw(daemon.pid().cast_signed()), Signal::SIGCONT).unwrap();

    let moved = home.path().join("moved");
    fs::rename(&there, &moved).unwrap();
    assert_doctor_finds(
        &home,
        1,
        &[
            ("restart", "warning", &["no longer exists", "fullon stop"]),
            (
                "settings",
                "warning",
                &["changed in .env, not active until"],
            ),
            ("log", "error", &["the directory"]),
        ],
    );
}

#[test]
fn edited_settings_are_reported_with_command_to_apply_them() {
    let home = Home::started();
    let env = home.path().join(".env");
    fs::write(&env, "SHUTDOWN_TIMEOUT=3s\nLOG_KEEP=2\n").unwrap();
    let words = [
        "LOG_KEEP, SHUTDOWN_TIMEOUT changed in .env",
        "fullon reload",
    ];
    assert_doctor_finds(&home, 0, &[("settings", "warning", &words)]);
    fs::write(&env, "SHUTDOWN_TIMEOUT=3s\nLOG_FORMAT=json\n").unwrap();
    let words = [
        "LOG_FORMAT, SHUTDOWN_TIMEOUT changed in .env",
        "fullon restart",
    ];
    assert_doctor_finds(&home, 0, &[("settings", "warning", &words)]);
    home.run(["restart"]).succeeds();
    assert_doctor_finds(&home, 0, &[]);
    // An invalid setting is reported once, although a restart would read it too.
    fs::write(&env, "LOG_KEEP=x\n").unwrap();
    assert_doctor_finds(
        &home,
        2,
        &[("settings", "error", &["LOG_KEEP: `x`", "edit "])],
    );
}

/// An HTTP server with one response for everything, which proves that it has the key of this home.
fn serve_with_key(home: &Home, body: &str) -> String {
    FakeApi::start(&home.key(), body).address()
}

/// An HTTP server with one response for everything.
pub(super) fn serve_always(status: &str, body: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let length = body.len();
    let answer =
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    address
}

#[test]
fn unhealthy_public_api_is_reported() {
    let mut home = Home::started();
    fix_admin_port(&mut home);
    fs::remove_file(StateFile::path(&home.pid_file())).unwrap();
    let body = json!({ "status": "unhealthy", "version": "1", "service": "fullon_master_api" });
    let server = serve_always("503 Service Unavailable", &body.to_string());
    home.set("PORT", port_of(&server));
    let words = ["reports unhealthy", "/health/ready"];
    assert_doctor_finds(
        &home,
        1,
        &[
            NO_STATE_FILE[0],
            NO_STATE_FILE[1],
            ("public API", "warning", &words),
        ],
    );
}

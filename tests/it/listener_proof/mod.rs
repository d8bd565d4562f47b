//! A token goes only to a program whose user could sign one: no other listener gets any.

mod admin_port;
mod admin_url;
mod local_daemon;

use std::fs::File;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::thread;

use fullon_master_api::instance::PidFile;
use nix::unistd::setfsuid;
use serde_json::json;

use crate::support::{ChildGuard, Connection, DEADLINE, FakeApi, Home, eventually, free_port};

/// A user that is neither root nor the daemon's.
pub const OTHER_USER: u32 = 12345;

/// Calls a function in a thread whose new sockets belong to another user.
pub fn as_other_user<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setfsuid(OTHER_USER.into());
            run()
        });
        thread.join().unwrap()
    })
}

/// Every command that talks to a daemon. The last ones end it.
const COMMANDS: [&[&str]; 13] = [
    &["status"],
    &["--json", "status"],
    &["logs", "--no-follow"],
    &["logs", "-n", "1"],
    &["doctor"],
    &["token"],
    &["console"],
    &["sessions"],
    &["token", "--revoke", "an-id"],
    &["token", "--revoke-all"],
    &["reload"],
    &["restart"],
    &["stop"],
];

/// The answer that made a listener be taken for the daemon of this home.
pub fn false_status(home: &Home) -> String {
    json!({
        "service": "fullon_master_api", "version": "1.0.0", "phase": "ready", "pid": 1,
        "instance": "edc8f870-fe92-4d72-abec-3a1b51279b72", "generation": 1,
        "started_at": "2026-11-23T16:41:41Z", "uptime_seconds": 1.0,
        "server": "http://127.0.0.1:1", "docs": "http://127.0.0.1:1/docs",
        "health": "http://127.0.0.1:1/health", "admin": "http://127.0.0.1:1",
        "pid_file": home.pid_file(), "log_file": "-", "log_level": "info",
        "process": { "rss_bytes": 1, "cpu_seconds": 0.1, "open_files": 1, "threads": 1 },
        "http": { "connections": 1, "in_flight": 1, "requests_total": 1 },
        "checks": [], "pending_restart": [],
    })
    .to_string()
}

/// Listens at `ADMIN_PORT` of the home as another user.
pub fn squat(home: &mut Home) -> FakeApi {
    let port = free_port();
    home.set("ADMIN_PORT", &port.to_string());
    FakeApi::start_as(OTHER_USER, port, &false_status(home))
}

/// Runs all commands but those that start a daemon.
fn run_all(home: &Home, commands: &[&[&str]]) {
    for command in commands {
        let outcome = home.run(command.iter().copied());
        assert!(!outcome.stdout.contains("console#token"), "{outcome:#?}");
    }
}

/// Gives the lock of the PID file to a process that has no state file, as a daemon has none until
/// it serves.
pub fn starting_daemon(home: &Home) -> ChildGuard {
    let pid_file = PidFile::acquire(&home.pid_file()).unwrap();
    let lock: File = pid_file.clone_lock().unwrap();
    let child = Command::new("sh")
        .args(["-c", "trap '' HUP USR2; exec sleep 600"])
        .stdin(Stdio::from(lock))
        .spawn();
    pid_file.disown();
    ChildGuard(child.unwrap())
}

/// A daemon that was killed, and another user who listens at its admin port.
pub fn squat_after_kill(home: &mut Home) -> FakeApi {
    let port = free_port();
    home.set("ADMIN_PORT", &port.to_string());
    home.run(["start"]).succeeds();
    let daemon = home.daemon().unwrap();
    daemon.kill().unwrap();
    assert!(daemon.wait_for_exit(DEADLINE));
    FakeApi::start_as(OTHER_USER, port, &false_status(home))
}

/// A daemon that has closed its ports, and still answers a request, while another user listens at
/// its admin port.
pub fn squat_while_draining(home: &mut Home) -> (FakeApi, Connection) {
    let port = free_port();
    home.set("ADMIN_PORT", &port.to_string());
    home.set("SHUTDOWN_TIMEOUT", "5m");
    home.run(["start"]).succeeds();
    let unfinished = home.unfinished_request();
    home.daemon().unwrap().terminate().unwrap();
    // The daemon also held the port at all addresses.
    eventually("the port is free", || {
        as_other_user(|| TcpListener::bind(("127.0.0.1", port)).is_ok())
    });
    let fake = FakeApi::start_as(OTHER_USER, port, &false_status(home));
    (fake, unfinished)
}

//! A token goes only to a program whose user could sign one: no other listener gets any.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Lines};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};
use std::thread;

use fullon_master_api::config::Secret;
use fullon_master_api::instance::{PidFile, StateFile};
use nix::unistd::setfsuid;
use serde_json::json;

use crate::doctor::{as_nobody, home_of_nobody};
use crate::support::{
    ChildGuard, Connection, FakeApi, Home, Outcome, eventually, free_port, jwt, proof, request,
    running_as_root, scale, spawn,
};

/// A user that is neither root nor the daemon's.
pub const OTHER_USER: u32 = 12345;

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

#[test]
fn no_command_connects_while_no_daemon_runs() {
    if !running_as_root("no_command_connects_while_no_daemon_runs") {
        return;
    }
    let mut home = Home::new();
    let fake = squat(&mut home);
    home.token("admin:read");
    run_all(&home, &COMMANDS);
    home.run(["status"]).exits(3);
    home.run(["stop"])
        .exits(1)
        .stdout_contains(&["not running"]);
    home.run(["console"])
        .exits(1)
        .stderr_contains(&["not running", "fullon start"]);
    home.run(["doctor"])
        .exits(1)
        .stdout_contains(&["in use by", "ADMIN_PORT"]);
    assert_eq!(fake.connections(), 0, "{}", fake.received());
}

#[test]
fn no_command_connects_after_daemon_was_killed() {
    if !running_as_root("no_command_connects_after_daemon_was_killed") {
        return;
    }
    let mut home = Home::new();
    let port = free_port();
    home.set("ADMIN_PORT", &port.to_string());
    home.run(["start"]).succeeds();
    let daemon = home.daemon().unwrap();
    daemon.kill().unwrap();
    assert!(daemon.wait_for_exit(crate::support::DEADLINE));
    let fake = FakeApi::start_as(OTHER_USER, port, &false_status(&home));
    home.run(["status"]).exits(1).stdout_contains(&["Dead"]);
    // `restart` removes the PID file when it fails to start a daemon. Then only the state file is
    // left.
    run_all(&home, &COMMANDS);
    assert!(!home.pid_file().exists());
    assert!(StateFile::path(&home.pid_file()).exists());
    run_all(&home, &COMMANDS);
    assert_eq!(fake.connections(), 0, "{}", fake.received());
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

#[test]
fn no_command_connects_while_daemon_starts() {
    if !running_as_root("no_command_connects_while_daemon_starts") {
        return;
    }
    let mut home = Home::new();
    let fake = squat(&mut home);
    home.token("admin:read");
    let mut starting = starting_daemon(&home);
    // Followers of the log have no end here.
    let ends = |command: &&[&str]| command != &["logs", "-n", "1"] && command != &["reload"];
    let commands: Vec<_> = COMMANDS
        .into_iter()
        .filter(|command| ends(command))
        .collect();
    home.run(["status"])
        .succeeds()
        .stdout_contains(&["Running (address of the admin API unknown)"])
        .stderr_contains(&["still starting"]);
    assert!(starting.is_alive());
    run_all(&home, &commands);
    eventually("stop ends the process", || !starting.is_alive());
    assert_eq!(fake.connections(), 0, "{}", fake.received());
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
    eventually("the listener is closed", || {
        TcpStream::connect(("127.0.0.1", port)).is_err()
    });
    let fake = FakeApi::start_as(OTHER_USER, port, &false_status(home));
    (fake, unfinished)
}

/// A daemon that drains has closed its ports, and another user can bind them.
#[test]
fn no_command_connects_to_another_user_while_daemon_drains() {
    if !running_as_root("no_command_connects_to_another_user_while_daemon_drains") {
        return;
    }
    let mut home = Home::new();
    let (fake, _unfinished) = squat_while_draining(&mut home);
    home.run(["status"])
        .succeeds()
        .stdout_contains(&["Running (another user's program holds the admin port)"])
        .stderr_contains(&["no token was sent", "uid 12345", "ss -tanp"]);
    home.run(["doctor"])
        .exits(1)
        .stdout_contains(&["no token was sent", "uid 12345"]);
    home.run(["console"])
        .exits(1)
        .stderr_contains(&["no token was sent"]);
    home.run(["logs", "--no-follow"])
        .succeeds()
        .stderr_contains(&["no token was sent", "reading"]);
    home.run(["start"])
        .exits(1)
        .stderr_contains(&["is stopping"]);
    home.run(["token"]).succeeds();
    home.run(["stop"])
        .succeeds()
        .stderr_contains(&["no token was sent", "sending SIGTERM"]);
    assert_eq!(fake.connections(), 0, "{}", fake.received());
}

/// A tunnel whose local end another user holds.
#[test]
fn admin_url_of_another_user_gets_nothing() {
    if !running_as_root("admin_url_of_another_user_gets_nothing") {
        return;
    }
    let mut home = Home::new();
    let fake = squat(&mut home);
    home.token("admin:read");
    for host in ["127.0.0.1", "localhost", "0.0.0.0", "[::ffff:127.0.0.1]"] {
        let url = format!(
            "http://{host}:{}",
            fake.address().rsplit_once(':').unwrap().1
        );
        for command in COMMANDS {
            let arguments = ["--admin-url", &url].into_iter();
            home.run(arguments.chain(command.iter().copied()));
        }
        home.run(["--admin-url", &url, "status"])
            .exits(4)
            .stdout_contains(&["no token was sent", "uid 12345"]);
    }
    assert_eq!(fake.connections(), 0, "{}", fake.received());
}

/// Sockets of another user that were bound to the port before anybody listened there.
struct TakenPort {
    process: ChildGuard,
    lines: Lines<BufReader<ChildStdout>>,
}

impl TakenPort {
    fn take(port: u16) -> Self {
        Self::run("take_over_connections.py", port)
    }

    /// Runs a script that binds the port.
    fn run(script: &str, port: u16) -> Self {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/support");
        let mut command = Command::new("python3");
        command
            .arg(Path::new(directory).join(script))
            .args([port.to_string(), OTHER_USER.to_string()]);
        let mut process = spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
        let stdout = process.0.stdout.take().unwrap();
        let mut lines = BufReader::new(stdout).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        Self { process, lines }
    }

    /// Ends the script, and returns the rest of its output.
    fn finish(mut self) -> Vec<String> {
        drop(self.process.0.stdin.take());
        self.lines.map(Result::unwrap).collect()
    }
}

#[test]
fn connection_that_another_user_takes_over_gets_nothing() {
    if !running_as_root("connection_that_another_user_takes_over_gets_nothing") {
        return;
    }
    let home = Home::new();
    home.token("admin:read");
    let port = free_port();
    let taken = TakenPort::take(port);
    let listener = FakeApi::start_as(0, port, &false_status(&home));
    let is_taken_over = || {
        let outcome = home
            .run(["--admin-url", &listener.url(), "status"])
            .exits(4);
        let is_too_late = outcome.stdout.contains("no answer within");
        if !is_too_late {
            outcome.stdout_contains(&["no token was sent", "uid 12345"]);
        }
        !is_too_late
    };
    // On a busy machine, the client may give up before the other user sees it.
    assert!((0..20).any(|_| is_taken_over()));
    let outcomes = taken.finish();
    let mut received = outcomes
        .iter()
        .filter(|outcome| !outcome.starts_with("not connected"));
    assert!(received.clone().count() > 0, "{outcomes:?}");
    assert!(
        received.all(|outcome| outcome == "received b''"),
        "{outcomes:?}"
    );
    assert_eq!(listener.received(), "");
}

#[test]
fn daemon_refuses_a_port_that_another_user_has_bound() {
    if !running_as_root("daemon_refuses_a_port_that_another_user_has_bound") {
        return;
    }
    let mut home = Home::new();
    let port = free_port();
    home.set("ADMIN_PORT", &port.to_string());
    let taken = TakenPort::take(port);
    home.run(["doctor"])
        .exits(1)
        .stdout_contains(&["ADMIN_PORT", "uid 12345", "ps -u 12345"]);
    home.run(["start"])
        .exits(1)
        .stderr_contains(&["ADMIN_PORT", "uid 12345", "ps -u 12345"]);
    home.run(["status"]).exits(3);
    drop(taken);
    home.run(["start"]).succeeds();
}

/// Linux changes the address of a socket at a multicast address when it connects.
#[test]
fn nobody_binds_the_port_of_a_running_daemon_at_any_address() {
    if !running_as_root("nobody_binds_the_port_of_a_running_daemon_at_any_address") {
        return;
    }
    let mut home = Home::new();
    let port = free_port();
    home.set("ADMIN_PORT", &port.to_string());
    let bind_as_other_user = move || {
        let binding = thread::spawn(move || {
            setfsuid(OTHER_USER.into());
            TcpListener::bind(("224.0.0.1", port))
        });
        binding.join().unwrap()
    };
    let taken = bind_as_other_user().unwrap();
    home.run(["start"])
        .exits(1)
        .stderr_contains(&["ADMIN_PORT", "uid 12345"]);
    drop(taken);
    // A connection of that user ends, and is at the port for 60 s: the daemon cannot hold it in the
    // usual way.
    let ending = thread::spawn(move || {
        setfsuid(OTHER_USER.into());
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        drop(listener.accept().unwrap());
        drop(client);
    });
    ending.join().unwrap();
    home.run(["start"]).succeeds();
    for _ in 0..3 {
        bind_as_other_user().unwrap_err();
        home.restart();
    }
    bind_as_other_user().unwrap_err();
    home.run(["stop"]).succeeds();
    drop(bind_as_other_user().unwrap());
}

/// The socket was bound to all addresses. While it is connected, it is at `::1`.
#[test]
fn daemon_refuses_a_port_with_a_socket_that_can_change_its_address() {
    if !running_as_root("daemon_refuses_a_port_with_a_socket_that_can_change_its_address") {
        return;
    }
    let mut home = Home::new();
    let port = free_port();
    home.set("ADMIN_PORT", &port.to_string());
    let squatter = thread::spawn(move || {
        setfsuid(OTHER_USER.into());
        let server = TcpListener::bind("[::1]:0").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .unwrap();
        let _inside = runtime.enter();
        let socket = tokio::net::TcpSocket::new_v6().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket
            .bind(format!("[::]:{port}").parse().unwrap())
            .unwrap();
        let connect = socket.connect(server.local_addr().unwrap());
        (
            runtime.block_on(connect).unwrap().into_std().unwrap(),
            server,
        )
    });
    let parked = squatter.join().unwrap();
    home.run(["doctor"])
        .exits(1)
        .stdout_contains(&["ADMIN_PORT", "uid 12345"]);
    home.run(["start"])
        .exits(1)
        .stderr_contains(&["ADMIN_PORT", "uid 12345"]);
    drop(parked);
    home.run(["start"]).succeeds();
}

/// The kernel does not report all sockets at one moment.
#[test]
fn daemon_refuses_a_port_with_a_socket_that_changes_its_state() {
    if !running_as_root("daemon_refuses_a_port_with_a_socket_that_changes_its_state") {
        return;
    }
    let mut home = Home::new();
    let port = free_port();
    home.set("ADMIN_PORT", &port.to_string());
    let _taken = TakenPort::run("change_socket_state.py", port);
    for _ in 0..scale::rounds() {
        home.run(["start"])
            .exits(1)
            .stderr_contains(&["ADMIN_PORT", "uid 12345"]);
    }
}

/// A program of another user listened while the daemon was down. It has closed that socket, but not
/// the connections that it has accepted. A browser would send its next requests there.
#[test]
fn daemon_refuses_a_port_where_another_user_has_connections() {
    if !running_as_root("daemon_refuses_a_port_where_another_user_has_connections") {
        return;
    }
    let mut home = Home::new();
    let port = free_port();
    home.set("ADMIN_PORT", &port.to_string());
    let squatter = thread::spawn(move || {
        setfsuid(OTHER_USER.into());
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        (listener.accept().unwrap(), client)
    });
    let kept = squatter.join().unwrap();
    home.run(["start"])
        .exits(1)
        .stderr_contains(&["ADMIN_PORT", "uid 12345"]);
    drop(kept);
    home.run(["start"]).succeeds();
}

/// The old process knows that its own admin port is safe, but not the new one.
#[test]
fn restart_refuses_a_port_that_another_user_has_bound() {
    if !running_as_root("restart_refuses_a_port_that_another_user_has_bound") {
        return;
    }
    let mut home = Home::new();
    home.unset("ADMIN_PORT");
    let port = free_port();
    home.write_env(&format!("ADMIN_PORT={}\n", free_port()));
    home.run(["start"]).succeeds();
    home.run(["restart"]).succeeds();
    home.write_env(&format!("ADMIN_PORT={port}\n"));
    let taken = TakenPort::take(port);
    home.run(["restart"]).exits(1).stderr_contains(&[
        "ADMIN_PORT",
        "uid 12345",
        "continues as before",
    ]);
    drop(taken);
    home.run(["restart"]).succeeds();
}

/// The daemon runs until its successor could start.
#[test]
fn hard_restart_refuses_a_port_that_another_user_has_bound() {
    if !running_as_root("hard_restart_refuses_a_port_that_another_user_has_bound") {
        return;
    }
    let mut home = Home::new();
    home.unset("ADMIN_PORT");
    home.write_env("ADMIN_PORT=0\n");
    home.run(["start"]).succeeds();
    let daemon = home.daemon().unwrap();
    let port = free_port();
    home.write_env(&format!("ADMIN_PORT={port}\n"));
    let other_user = thread::spawn(move || {
        setfsuid(OTHER_USER.into());
        TcpListener::bind(("127.0.0.2", port))
    });
    let taken = other_user.join().unwrap().unwrap();
    home.run(["restart", "--hard"]).exits(1).stderr_contains(&[
        "ADMIN_PORT",
        "uid 12345",
        &format!("127.0.0.2:{port}"),
        "ps -u 12345",
        "Nothing has changed",
    ]);
    assert!(!daemon.has_exited());
    drop(taken);
    home.run(["restart", "--hard"]).succeeds();
}

#[test]
fn admin_url_without_the_key_gets_no_token() {
    let home = Home::new();
    home.token("admin:read");
    let fake = FakeApi::start(&Secret::new("another-key".repeat(3)), &false_status(&home));
    for command in COMMANDS {
        let url = fake.url();
        let arguments = ["--admin-url", &url].into_iter();
        home.run(arguments.chain(command.iter().copied()));
    }
    home.run(["--admin-url", &fake.url(), "status"])
        .exits(4)
        .stdout_contains(&["does not have the signing key", "no token was sent"]);
    assert!(fake.connections() > 0);
    assert_eq!(fake.tokens(), Vec::<String>::new());
    assert!(fake.received().contains("POST /admin/proof"));
}

/// A relay sees the tokens. Each is valid only for what the user asked for.
#[test]
fn token_of_command_is_valid_for_one_request() {
    let home = Home::started();
    let address = home.admin_address();
    for (command, method, path, scope) in [
        (
            &["status", "--json"][..],
            "GET",
            "/admin/status",
            "admin:read",
        ),
        (&["logs", "--no-follow"], "GET", "/admin/logs", "admin:logs"),
        (&["reload"], "POST", "/admin/reload", "admin:control"),
        (
            &["console"],
            "POST",
            "/admin/session/token",
            "admin:read admin:logs admin:control",
        ),
        (&["restart"], "POST", "/admin/restart", "admin:control"),
        (&["stop"], "POST", "/admin/stop", "admin:control"),
    ] {
        let relay = FakeApi::relay_to(&address);
        let url = relay.url();
        let arguments = ["--admin-url", &url].into_iter();
        home.run(arguments.chain(command.iter().copied()))
            .succeeds();
        let tokens = relay.tokens();
        let token = tokens.first().unwrap();
        let claims = jwt::claims_of(token);
        assert_eq!(claims["req"], format!("{method} {path}"));
        assert_eq!(claims["scope"], scope);
        let lifetime = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
        assert_eq!(lifetime, 60);
        if command != ["stop"] {
            for (method, path) in [
                ("GET", "/admin/config"),
                ("POST", "/admin/session"),
                ("POST", "/admin/stop"),
                ("PUT", "/admin/log-level"),
            ] {
                home.call_admin_as(token, method, path)
                    .assert_problem(401, "the token is for another request");
            }
        }
    }
}

#[test]
fn proof_needs_the_key() {
    let home = Home::new();
    let key = home.key();
    home.run(["start"]).succeeds();
    let nonce = jwt::encode_part([7; 32]);
    let what = "GET /admin/status";
    let post = |nonce: &str, mac: &str| {
        let body = json!({ "nonce": nonce, "req": what, "mac": mac }).to_string();
        let headers = [("Content-Type", "application/json")];
        request(
            &home.admin_address(),
            "POST",
            "/admin/proof",
            &headers,
            &body,
        )
    };
    let answer = post(&nonce, &proof(key.expose(), "client", &nonce, what));
    assert_eq!(answer.status, 200);
    let expected = proof(key.expose(), "daemon", &nonce, what);
    assert_eq!(answer.json(), json!({ "mac": expected }));
    for mac in [
        proof("another key of thirty-two bytes.", "client", &nonce, what),
        proof(key.expose(), "client", &nonce, "POST /admin/stop"),
        expected,
        "?".into(),
        String::new(),
    ] {
        let refused = post(&nonce, &mac);
        refused.assert_problem(401, "signed with another key");
    }
    post("short", &proof(key.expose(), "client", "short", what)).assert_problem(400, "`nonce`");
    let wrong_method = request(&home.admin_address(), "GET", "/admin/proof", &[], "");
    assert_eq!(wrong_method.status, 405);
    assert_eq!(wrong_method.header("allow"), Some("POST"));
}

#[test]
fn daemon_without_pid_file_is_found_by_its_state_file() {
    let home = Home::started();
    let pid = home.daemon().unwrap().pid().to_string();
    let daemon = home.daemon().unwrap();
    fs::remove_file(home.pid_file()).unwrap();
    home.run(["status"]).succeeds().stdout_contains(&[&pid]);
    home.run(["logs", "--no-follow"])
        .succeeds()
        .stdout_contains(&["ready version="]);
    home.run(["stop"])
        .succeeds()
        .stdout_contains(&["Daemon stopped\n"]);
    assert!(daemon.has_exited());
}

#[test]
fn user_whose_daemon_it_is_is_named() {
    if !running_as_root("user_whose_daemon_it_is_is_named") {
        return;
    }
    let home = Home::started();
    let mut visible = home_of_nobody();
    visible.set("PID_FILE", &home.pid_file().display().to_string());
    fs::set_permissions(
        home.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    fs::set_permissions(
        home.pid_file(),
        std::os::unix::fs::PermissionsExt::from_mode(0o644),
    )
    .unwrap();
    visible.set("JWT_SECRET_KEY", home.key().expose());
    for command in [&["stop"][..], &["reload"], &["restart"], &["console"]] {
        Outcome::run(&mut as_nobody(&visible, command))
            .exits(1)
            .stderr_contains(&["sudo -u root -H fullon"]);
    }
    Outcome::run(&mut as_nobody(&visible, &["status"]))
        .succeeds()
        .stdout_contains(&["Running (address of the admin API unknown)"]);
    // With the key and the address, another user may operate it.
    let url = home.state().admin;
    Outcome::run(&mut as_nobody(&visible, &["--admin-url", &url, "status"])).succeeds();
}

//! A restart uses the current settings and program.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::symlink;

use rustix::net::{AddressFamily, SocketType, bind, sockopt};
use serde_json::json;

use crate::support::{
    Connection, Home, InstalledProgram, Load, LoadProfile, Outcome, eventually, executable_of,
    free_port, request,
};

/// A home whose settings are only in its `.env`.
struct EditedSettings {
    home: Home,
    settings: Vec<(&'static str, String)>,
}

impl EditedSettings {
    fn new() -> Self {
        let mut home = Home::new();
        let mut settings = Vec::new();
        for (name, value) in [
            ("HOST", "127.0.0.1".to_owned()),
            ("PORT", free_port().to_string()),
            ("ADMIN_PORT", free_port().to_string()),
            ("LOG_FILE", home.log_file().display().to_string()),
        ] {
            home.unset(name);
            settings.push((name, value));
        }
        let edited = Self { home, settings };
        edited.write();
        edited.home.run(["start"]).succeeds();
        edited
    }

    fn get(&self, name: &str) -> &str {
        let setting = self.settings.iter().find(|(there, _)| *there == name);
        &setting.unwrap().1
    }

    fn set(&mut self, name: &'static str, value: &str) {
        self.settings.retain(|(there, _)| *there != name);
        self.settings.push((name, value.to_owned()));
        self.write();
    }

    /// Starts again. After a restart, the sockets would have another history.
    fn start_at(&mut self, host: &str) {
        self.home.run(["stop"]).succeeds();
        self.set("HOST", host);
        self.home.run(["start"]).succeeds();
    }

    fn write(&self) {
        let lines: Vec<String> = self
            .settings
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        self.home.write_env(&lines.join("\n"));
    }

    #[track_caller]
    fn assert_pending(&self, names: &[&str]) {
        let status = self.home.call_admin("GET", "/admin/status").json();
        assert_eq!(status["pending_restart"], json!(names));
    }
}

fn local_address(port: &str) -> String {
    format!("127.0.0.1:{port}")
}

fn is_refused(address: &str) -> bool {
    TcpStream::connect(address)
        .is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}

/// A request with incomplete headers.
fn begin_request(address: &str) -> Connection {
    let mut connection = Connection::open(address);
    connection.send_bytes(b"GET /health HTTP/1.1\r\nHost: localhost\r\n");
    connection
}

/// Finishes the request, which is answered before the connection closes.
#[track_caller]
fn assert_finishes(mut request: Connection) {
    request.send_bytes(b"\r\n");
    let answer = request.read_response("GET");
    assert_eq!(answer.header("connection"), Some("close"), "{answer:#?}");
    assert_eq!(request.read_to_end(), "");
}

#[test]
fn public_port_changes() {
    let mut edited = EditedSettings::new();
    let (old, new) = (local_address(edited.get("PORT")), free_port().to_string());
    edited.assert_pending(&[]);
    edited.set("PORT", &new);
    edited.assert_pending(&["PORT"]);
    let request = begin_request(&old);

    edited.home.restart();
    assert_eq!(edited.home.public_address(), local_address(&new));
    assert_eq!(health_status(&local_address(&new)), 200);
    eventually("the old port refuses", || is_refused(&old));
    assert_finishes(request);
    edited.assert_pending(&[]);
    edited
        .home
        .run(["status"])
        .succeeds()
        .stdout_contains(&[&new]);
    edited.home.wait_until_only(edited.home.state().pid);
}

fn health_status(address: &str) -> u16 {
    request(address, "GET", "/health", &[], "").status
}

#[test]
fn admin_port_changes() {
    let mut edited = EditedSettings::new();
    let (old, new) = (
        local_address(edited.get("ADMIN_PORT")),
        free_port().to_string(),
    );
    edited.set("ADMIN_PORT", &new);
    edited.assert_pending(&["ADMIN_PORT"]);
    let load = Load::start(&edited.home.public_address(), &LoadProfile::default());
    edited.home.restart();
    load.wait_for_more(100);
    load.finish().assert_flawless();
    assert_eq!(edited.home.admin_address(), local_address(&new));
    eventually("the old port refuses", || is_refused(&old));
    let status = edited.home.run(["status"]).succeeds();
    assert_eq!(status.stderr, "");
    edited.home.run(["stop"]).succeeds();
}

#[test]
fn swapped_ports_work() {
    // A listener of the old process overlaps with the new one in the second case, and keeps the port
    // from being held in the others.
    for host in ["127.0.0.1", "0.0.0.0", "127.0.0.2"] {
        swap_ports(host);
    }
}

fn swap_ports(host: &str) {
    let mut edited = EditedSettings::new();
    edited.start_at(host);
    let reachable = if host == "0.0.0.0" { "127.0.0.1" } else { host };
    let (public, admin) = (
        edited.get("PORT").to_owned(),
        edited.get("ADMIN_PORT").to_owned(),
    );
    for round in 0..4 {
        let (port, admin_port) = if round % 2 == 0 {
            (&admin, &public)
        } else {
            (&public, &admin)
        };
        edited.set("PORT", port);
        edited.set("ADMIN_PORT", admin_port);
        edited.assert_pending(&["PORT", "ADMIN_PORT"]);
        edited.home.restart();
        let public = format!("{reachable}:{port}");
        assert_eq!(edited.home.public_address(), public);
        assert_eq!(edited.home.admin_address(), local_address(admin_port));
        assert_eq!(health_status(&public), 200);
        assert_eq!(health_status(&local_address(admin_port)), 404);
        // No other user can bind the admin port, at no moment.
        assert!(!can_bind(&format!("224.0.0.1:{admin_port}")), "{host}");
        let status = edited.home.run(["status"]).succeeds();
        assert_eq!(status.stderr, "");
    }
}

fn can_bind(address: &str) -> bool {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    sockopt::set_socket_reuseaddr(&socket, true).unwrap();
    bind(&socket, &address.parse::<SocketAddr>().unwrap()).is_ok()
}

#[test]
fn admin_port_becomes_the_former_public_port() {
    let mut edited = EditedSettings::new();
    edited.start_at("0.0.0.0");
    let (admin, public) = (edited.get("PORT").to_owned(), free_port().to_string());
    edited.set("PORT", &public);
    edited.set("ADMIN_PORT", &admin);
    edited.home.restart();
    assert_eq!(edited.home.admin_address(), local_address(&admin));
    assert_eq!(health_status(&local_address(&public)), 200);
    eventually("the old process has closed its listener", || {
        is_refused(&format!("127.0.0.2:{admin}"))
    });
    assert!(!can_bind(&format!("224.0.0.1:{admin}")));
    edited.home.restart();
}

#[test]
fn wildcard_address_replaces_single_one_and_back() {
    let mut edited = EditedSettings::new();
    let port = edited.get("PORT").to_owned();
    let load = Load::start(&local_address(&port), &LoadProfile::default());
    // All of 127/8 is this machine. Only a listener on all addresses accepts this one.
    let other = format!("127.0.0.2:{port}");
    assert!(is_refused(&other));
    for _ in 0..8 {
        edited.set("HOST", "0.0.0.0");
        edited.assert_pending(&["HOST"]);
        edited.home.restart();
        assert_eq!(health_status(&other), 200);
        // The next process inherits the same sockets.
        edited.home.restart();
        load.wait_for_more(100);
        edited.set("HOST", "127.0.0.1");
        edited.home.restart();
        eventually("the other address refuses", || is_refused(&other));
        load.wait_for_more(100);
    }
    load.finish().assert_flawless();
}

#[test]
fn taken_port_fails_and_old_process_continues() {
    let mut edited = EditedSettings::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().port().to_string();
    let owner = format!("(PID {})", std::process::id());
    let pid = edited.home.state().pid;
    let load = Load::start(&edited.home.public_address(), &LoadProfile::default());
    for setting in ["PORT", "ADMIN_PORT"] {
        let before = edited.get(setting).to_owned();
        edited.set(setting, &taken);
        let expected = [setting, &taken, "in use", &owner];
        edited
            .home
            .run(["restart"])
            .exits(1)
            .stderr_contains(&expected);
        let answer = edited.home.call_admin("POST", "/admin/restart");
        for word in expected {
            answer.assert_problem(500, word);
        }
        edited.home.wait_until_only(pid);
        edited.set(setting, &before);
    }
    load.wait_for_more(100);
    load.finish().assert_flawless();
    assert_eq!(edited.home.state().pid, pid);
    edited.home.restart();
}

#[test]
fn changed_pid_file_is_refused() {
    let mut edited = EditedSettings::new();
    let pid = edited.home.state().pid;
    let other = edited.home.path().join("other.pid");
    edited.set("PID_FILE", other.to_str().unwrap());
    edited.assert_pending(&["PID_FILE"]);
    let answer = edited.home.call_admin("POST", "/admin/restart");
    for word in ["PID_FILE", other.to_str().unwrap(), "stop"] {
        answer.assert_problem(answer.status, word);
    }
    assert!([422, 500].contains(&answer.status), "{answer:#?}");
    assert!(!other.exists());
    // No command names a restart as the next step.
    let old = edited.home.pid_file().display().to_string();
    let stop = format!("fullon stop --pid-file {old} && fullon start");
    let with_old = |command: &str| edited.home.run([command, "--pid-file", &old]);
    let until = format!("PID_FILE changed in .env, not active until `{stop}`");
    with_old("status").succeeds().stdout_contains(&[&until]);
    with_old("doctor").stdout_contains(&[&until]);
    let active = format!("Not active until `{stop}`:\n  PID_FILE: ");
    let reloaded = with_old("reload").succeeds().stdout_contains(&[&active]);
    assert!(!reloaded.stdout.contains("restart"), "{reloaded:#?}");
    edited.home.wait_until_only(pid);
    assert_eq!(edited.home.state().pid, pid);
}

#[test]
fn each_kind_of_setting_is_applied() {
    let mut edited = EditedSettings::new();
    edited.set("LOG_LEVEL", "debug");
    edited.set("SHUTDOWN_TIMEOUT", "7s");
    edited.home.restart();
    let status = edited.home.call_admin("GET", "/admin/status").json();
    assert_eq!(status["log_level"], "debug");
    let config = edited.home.call_admin("GET", "/admin/config").body;
    assert!(config.contains(r#""value":"7s""#), "{config}");
    edited.assert_pending(&[]);
}

#[test]
fn variables_that_a_running_daemon_ignores_are_named() {
    let home = Home::started();
    for command in ["restart", "reload"] {
        let mut with_variable = home.fullon([command]);
        let outcome = Outcome::run(with_variable.env("LOG_LEVEL", "debug"));
        outcome
            .succeeds()
            .stderr_contains(&["LOG_LEVEL in this environment: ignored", "restart --hard"]);
        let outcome = home.run([command]).succeeds();
        assert!(!outcome.stderr.contains("ignored"), "{outcome:#?}");
    }
    let mut hard = home.fullon(["restart", "--hard"]);
    let outcome = Outcome::run(hard.env("LOG_LEVEL", "debug")).succeeds();
    assert!(!outcome.stderr.contains("ignored"), "{outcome:#?}");
    let status = home.call_admin("GET", "/admin/status").json();
    assert_eq!(status["log_level"], "debug");
}

#[test]
fn changed_secret_is_applied_and_commands_still_work() {
    let mut edited = EditedSettings::new();
    let secret = "another-secret-that-is-long-enough-to-be-one";
    let old = edited.home.token("admin:read");
    edited.set("JWT_SECRET_KEY", secret);
    edited.home.restart();
    let new = edited.home.token("admin:read");
    let status_at =
        |home: &Home, token: &str| home.call_admin_as(token, "GET", "/admin/status").status;
    let statuses = |home: &Home| (status_at(home, &old), status_at(home, &new));
    // For JWT_SECRET_KEY_GRACE, through any number of restarts.
    assert_eq!(statuses(&edited.home), (200, 200));
    edited.home.restart();
    assert_eq!(statuses(&edited.home), (200, 200));
    edited.set("JWT_SECRET_KEY", &secret.to_uppercase());
    edited.set("JWT_SECRET_KEY_GRACE", "0");
    edited.home.restart();
    assert_eq!(statuses(&edited.home), (401, 401));
    edited.home.run(["stop"]).succeeds();
}

#[test]
fn removed_key_file_is_replaced_by_new_key() {
    let mut edited = EditedSettings::new();
    let old = edited.home.bearer();
    let status = |home: &Home| {
        let headers = [("Authorization", old.as_str())];
        request(&home.admin_address(), "GET", "/admin/status", &headers, "").status
    };
    assert_eq!(status(&edited.home), 200);
    edited.set("JWT_SECRET_KEY_GRACE", "0");
    fs::remove_file(edited.home.path().join(".fullon_master_api.key")).unwrap();
    edited.home.restart();
    assert_eq!(status(&edited.home), 401);
    assert_eq!(edited.home.call_admin("GET", "/admin/status").status, 200);
    edited.home.run(["stop"]).succeeds();
}

#[test]
fn replaced_program_takes_over() {
    let home = Home::new();
    let program = InstalledProgram::install_in(&home);
    program.start(&home);
    let old = home.state().pid;
    program.restore();
    let deleted = executable_of(old).unwrap();
    assert!(deleted.to_string_lossy().ends_with(" (deleted)"));
    // Several times: the path must not become that of the deleted file.
    for _ in 0..3 {
        home.restart();
        assert_eq!(executable_of(home.state().pid).unwrap(), program.path());
        program.restore();
    }
}

#[test]
fn restart_by_another_program_names_both() {
    let home = Home::new();
    let program = InstalledProgram::install_in(&home);
    program.start(&home);
    let running = program.path().display().to_string();
    let command = env!("CARGO_BIN_EXE_fullon");
    let line = format!(
        "fullon: restarted {running}; this command is {command}: use `fullon restart --hard` to switch to it\n"
    );
    assert_eq!(home.run(["restart"]).succeeds().stderr, line);
    let own = Outcome::run(home.command(program.path()).arg("restart")).succeeds();
    assert_eq!(own.stderr, "");
    let hard = home.run(["restart", "--hard"]).succeeds();
    assert_eq!(hard.stderr, "");
    assert_eq!(home.run(["restart"]).succeeds().stderr, "");
}

#[test]
fn relinked_program_takes_over() {
    let home = Home::new();
    let releases = ["release-1", "release-2", "release-3"].map(|name| home.path().join(name));
    for release in &releases {
        fs::create_dir(release).unwrap();
        fs::hard_link(env!("CARGO_BIN_EXE_fullon"), release.join("fullon"))
            .or_else(|_| fs::copy(env!("CARGO_BIN_EXE_fullon"), release.join("fullon")).map(drop))
            .unwrap();
    }
    let current = home.path().join("current");
    let switch_to = |release| {
        let new = home.path().join("next");
        symlink(release, &new).unwrap();
        fs::rename(new, &current).unwrap();
    };
    switch_to(&releases[0]);
    Outcome::run(home.command(current.join("fullon")).arg("start")).succeeds();
    for release in &releases[1..] {
        switch_to(release);
        home.restart();
        let program = executable_of(home.state().pid).unwrap();
        assert_eq!(program, release.join("fullon"));
    }
    fs::remove_dir_all(&releases[0]).unwrap();
    home.restart();
}

//! Start, status, restart and stop.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;

use crate::support::{
    Home, Outcome, eventually, file_mode, install_program, open_files, request, running_as_root,
    spawn,
};

#[test]
fn start_status_restart_stop_from_shell() {
    let home = Home::new();
    home.run(["status"])
        .exits(3)
        .stdout_contains(&["Status:    Not running\n"]);

    let pid_file = home.pid_file().display().to_string();
    let log_file = home.log_file().display().to_string();
    let started = home.run(["start"]).succeeds();
    let first = home.state();
    let line = format!("Daemon started with PID {}\n", first.pid);
    let started = started.stdout_contains(&[&line, &log_file, &pid_file]);
    assert!(!started.stdout.contains('\x1b'), "{started:#?}");
    let mut warnings = started.stderr.lines();
    assert!(
        warnings.all(|line| line.starts_with("fullon: warning: daemon: runs as root")),
        "{started:#?}"
    );

    let labels = [
        "Status:",
        "PID:",
        "PID File:",
        "Log File:",
        "Server:",
        "Docs:",
        "Health:",
    ];
    home.run(["status"])
        .succeeds()
        .stdout_contains(&labels)
        .stdout_contains(&[
            "Status:    Running\n",
            &first.pid.to_string(),
            &pid_file,
            &log_file,
            &first.server,
        ]);
    home.run(["logs", "--no-follow"])
        .succeeds()
        .stdout_contains(&["ready version="]);

    home.run(["restart"])
        .succeeds()
        .stdout_contains(&["Daemon restarted with PID", &format!("(was {})", first.pid)]);
    let second = home.state();
    assert_ne!((first.pid, &first.instance), (second.pid, &second.instance));

    home.run(["stop"])
        .succeeds()
        .stdout_contains(&["Daemon stopped"]);
    assert!(home.daemon().is_none());
    assert!(!home.pid_file().exists());
    home.run(["status"]).exits(3);
    home.run(["stop"])
        .exits(1)
        .stdout_contains(&["not running"]);
    let log = home.log();
    assert_eq!(log.matches(" drained").count(), 1, "{log}");
    assert_eq!(log.matches(" stopped").count(), 1, "{log}");
}

#[test]
fn start_returns_when_ready_and_second_start_fails() {
    for _ in 0..10 {
        let home = Home::started();
        let health = request(&home.public_address(), "GET", "/health", &[], "");
        assert_eq!(health.status, 200);
        assert_eq!(
            health.body,
            r#"{"status":"healthy","version":"1.0.0","service":"fullon_master_api"}"#
        );
        let pid = home.state().pid;
        home.run(["start"])
            .exits(1)
            .stderr_contains(&[&format!("already running with PID {pid}")]);
        assert_eq!(home.state().pid, pid);
    }
}

#[test]
fn daemon_has_own_session_and_logs_its_output() {
    let home = Home::started();
    let pid = home.state().pid;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    assert_eq!(fields[3], pid.to_string(), "session of {stat}");
    let target = |fd: u8| fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap();
    assert_eq!(target(0).as_os_str(), "/dev/null");
    assert_eq!((target(1), target(2)), (home.log_file(), home.log_file()));
}

#[test]
fn daemon_keeps_no_file_of_the_shell() {
    // The lock of a deployment script, a low, a high and a pipe's descriptor.
    const SHELL: &str = "exec 9>lock 7</dev/zero 300>>lock && flock 9 && exec \"$0\" \"$@\"";
    let home = Home::new();
    let shell = |command: &str| {
        let mut shell = home.command("bash");
        shell.args(["-c", SHELL, env!("CARGO_BIN_EXE_fullon"), command]);
        shell
    };
    let assert_released = |by: &str| {
        let files = open_files(home.state().pid);
        let of_the_shell = [home.path().join("lock"), "/dev/zero".into()];
        assert!(
            !files.iter().any(|file| of_the_shell.contains(file)),
            "{by}: {files:?}"
        );
    };
    let lock_is_free = || {
        let mut flock = home.command("flock");
        flock.args(["--nonblock", "lock", "true"]);
        flock.status().unwrap().success()
    };
    Outcome::run(&mut shell("start")).succeeds();
    assert_released("start");
    assert!(lock_is_free());
    Outcome::run(&mut shell("restart")).succeeds();
    assert_released("restart of a running daemon");
    home.run(["stop"]).succeeds();
    Outcome::run(&mut shell("restart")).succeeds();
    assert_released("restart that starts a daemon");
    assert!(lock_is_free());
    home.run(["stop"]).succeeds();
    // A process in the foreground keeps them, as any does. The next one is not started by the shell.
    let _first = spawn(shell("run").stdout(std::process::Stdio::null()));
    eventually("the daemon serves", || {
        home.run(["status"]).stdout.contains("Status:    Running\n")
    });
    assert!(!lock_is_free());
    home.restart();
    assert_released("restart in the foreground");
}

#[test]
fn created_files_are_private() {
    let home = Home::started();
    let files = [
        ".fullon_master_api.pid",
        ".fullon_master_api.pid.state",
        ".fullon_master_api.key",
        "fullon.log",
    ];
    for file in files {
        assert_eq!(file_mode(&home.path().join(file)), 0o600, "{file}");
    }
}

#[test]
fn daemon_is_found_despite_invalid_settings() {
    let mut home = Home::started();
    let pid = home.state().pid;
    home.unset("PORT");
    home.unset("ADMIN_PORT");
    home.unset("LOG_FILE");
    fs::write(
        home.path().join(".env"),
        "LOG_KEEP is wrong\nLOG_LEVEL=verbose\nADMIN_PORT=1\nJWT_SECRET_KEY=your-secret-key\n",
    )
    .unwrap();
    home.run(["status"])
        .succeeds()
        .stdout_contains(&["Status:    Running\n", &pid.to_string()])
        .stderr_contains(&["ignored by this command: JWT_SECRET_KEY"]);
    home.run(["logs", "--no-follow"])
        .succeeds()
        .stdout_contains(&["ready version="]);
    for command in ["restart", "reload"] {
        let refused = home
            .run([command])
            .exits(2)
            .stderr_contains(&["LOG_LEVEL: `verbose`", "line 1: expected NAME=value"]);
        // A line that makes the command fail is not reported as ignored.
        assert!(!refused.stderr.contains("ignored"), "{refused:#?}");
    }
    home.run(["restart"])
        .exits(2)
        .stderr_contains(&["continues as before"]);
    home.run(["restart", "--hard"])
        .exits(2)
        .stderr_contains(&["LOG_LEVEL: `verbose`", "Nothing has changed"]);
    assert_eq!(home.state().pid, pid);

    let mut command = home.fullon(["stop"]);
    Outcome::run(command.current_dir("/"))
        .succeeds()
        .stdout_contains(&["Daemon stopped"]);
}

#[test]
fn restart_from_elsewhere_keeps_flags_and_environment() {
    let mut home = Home::new();
    fs::write(home.path().join(".env"), "SHUTDOWN_TIMEOUT=7s\n").unwrap();
    home.set("LOG_KEEP", "9");
    home.run(["start", "--log-level", "debug"]).succeeds();
    let before = home.call_admin("GET", "/admin/config").json();
    home.unset("LOG_KEEP");
    home.unset("LOG_FILE");
    home.unset("PORT");
    home.unset("ADMIN_PORT");
    for restart in [&["restart"][..], &["restart", "--hard"]] {
        let mut command = home.fullon(restart.iter().copied());
        Outcome::run(command.current_dir("/")).succeeds();
        assert_eq!(home.call_admin("GET", "/admin/config").json(), before);
    }

    home.run(["restart", "--log-level", "warn"])
        .exits(2)
        .stderr_contains(&["--log-level was given", "edit ", "--hard"]);
    home.run(["restart", "--log-level", "debug"]).succeeds();
    home.run(["restart", "--port", "0", "--log-keep", "3"])
        .exits(2)
        .stderr_contains(&["--log-keep, --port were given"]);
    home.run(["restart", "--hard", "--log-level", "warn"])
        .succeeds();
    assert_eq!(
        home.call_admin("GET", "/admin/status").json()["log_level"],
        "warn"
    );
}

#[test]
fn restart_and_reload_name_an_env_file_they_ignore() {
    let home = Home::started();
    let elsewhere = home.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = home.fullon(arguments.iter().copied());
        Outcome::run(command.current_dir(&elsewhere)).succeeds()
    };
    let env = elsewhere.join(".env");
    for command in ["restart", "reload"] {
        fs::write(&env, "LOG_KEEP=1\n").unwrap();
        let used = home.path().join(".env").display().to_string();
        let ignored = format!("{}: ignored, because", env.display());
        run(&[command]).stderr_contains(&[&ignored, &used]);
        fs::remove_file(&env).unwrap();
        let silent = run(&[command]);
        assert!(!silent.stderr.contains("ignored"), "{silent:#?}");
    }
}

#[test]
fn restart_and_reload_refuse_another_env_file() {
    let home = Home::new();
    let [good, other] = ["good.env", "other.env"].map(|name| home.path().join(name));
    fs::write(&good, "LOG_KEEP=7\n").unwrap();
    fs::write(&other, "LOG_KEEP=8\n").unwrap();
    home.run(["--env-file", "good.env", "start"]).succeeds();
    let (good_path, other_path) = (good.display().to_string(), other.display().to_string());
    for command in ["restart", "reload"] {
        home.run(["--env-file", "other.env", command])
            .exits(2)
            .stderr_contains(&["--env-file", &good_path, &other_path, "restart --hard"]);
        home.run(["--env-file", "./good.env", command]).succeeds();
    }
    for command in ["status", "token"] {
        home.run(["--env-file", "other.env", command]).succeeds();
    }
    fs::remove_file(good).unwrap();
    home.run(["doctor"]).exits(2).stdout_contains(&[
        "restore the file, or use another one: `fullon --env-file FILE restart --hard`",
    ]);
    home.run(["--env-file", "other.env", "restart", "--hard"])
        .succeeds();
    home.run(["--env-file", "other.env", "reload"]).succeeds();
    home.run(["doctor"]).succeeds();
}

#[test]
fn admin_url_is_refused_by_local_commands() {
    let home = Home::new();
    for command in ["start", "run", "config", "man"] {
        home.run(["--admin-url", "http://127.0.0.1:9", command])
            .exits(2)
            .stderr_contains(&["--admin-url has no effect", "remove it", "ADMIN_PORT"]);
    }
    assert!(home.daemon().is_none());
}

#[test]
fn pid_file_works_in_shell_scripts() {
    let home = Home::started();
    let mut script = home.command("sh");
    script.args(["-c", "test -d \"/proc/$(cat .fullon_master_api.pid)\" && read -r pid < .fullon_master_api.pid && kill \"$pid\""]);
    Outcome::run(&mut script).succeeds();
    crate::support::eventually("the daemon stops", || home.daemon().is_none());
}

#[test]
fn restart_starts_stopped_daemon() {
    let home = Home::new();
    home.run(["restart"])
        .succeeds()
        .stdout_contains(&["Daemon was not running", "Daemon started with PID"]);
    assert!(home.daemon().is_some());
}

#[test]
fn restart_without_working_directory_stops_nothing() {
    let home = Home::new();
    let directory = home.path().join("release-1");
    fs::create_dir(&directory).unwrap();
    Outcome::run(home.fullon(["start"]).current_dir(&directory)).succeeds();
    let pid = home.state().pid;
    fs::remove_dir(&directory).unwrap();
    home.run(["restart"])
        .exits(1)
        .stderr_contains(&["release-1 does not exist", "continues as before"]);
    home.run(["restart", "--hard"])
        .exits(1)
        .stderr_contains(&["release-1 does not exist", "Nothing has changed"]);
    assert_eq!(home.state().pid, pid);
}

#[test]
fn commands_work_from_removed_directory() {
    let home = Home::started();
    let script = format!(
        "mkdir gone && cd gone && rmdir ../gone && {fullon} status && {fullon} stop",
        fullon = env!("CARGO_BIN_EXE_fullon")
    );
    Outcome::run(home.command("sh").args(["-c", &script]))
        .succeeds()
        .stdout_contains(&["Status:    Running\n", "Daemon stopped\n"]);
}

/// The start command may die before the daemon is ready.
#[test]
fn daemon_runs_on_when_start_command_is_gone() {
    let home = Home::new();
    let mut run = home.fullon(["run", "--background"]);
    let mut child = run.stdout(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    crate::support::eventually("the daemon serves", || {
        home.run(["status"]).stdout.contains("Status:    Running\n")
    });
    home.run(["stop"]).succeeds();
    child.wait().unwrap();
}

/// A container platform runs the image as a user that nobody has set up.
#[test]
fn user_without_home_directory_has_the_key_beside_the_pid_file() {
    const USER: &str = "54321";
    if !running_as_root("user_without_home_directory_has_the_key_beside_the_pid_file") {
        return;
    }
    let mut home = Home::new();
    let program = home.path().join("fullon");
    install_program(Path::new(env!("CARGO_BIN_EXE_fullon")), &program);
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o711)).unwrap();
    let own = home.path().join("own");
    fs::create_dir(&own).unwrap();
    chown(&own, Some(USER.parse().unwrap()), Some(0)).unwrap();
    let pid_file = own.join("pid");
    home.set("PID_FILE", pid_file.to_str().unwrap());
    home.set("LOG_FILE", own.join("log").to_str().unwrap());
    let run = |arguments: &[&str]| {
        let mut command = home.command("setpriv");
        command
            .args(["--reuid", USER, "--regid", "0", "--clear-groups"])
            .arg(&program)
            .args(arguments)
            .env_remove("HOME")
            .current_dir(&own);
        Outcome::run(&mut command)
    };
    run(&["start"]).succeeds();
    assert_eq!(file_mode(&own.join(".fullon_master_api.key")), 0o600);
    run(&["doctor"]).succeeds();
    run(&["status"])
        .succeeds()
        .stdout_contains(&["Status:    Running\n"]);
    run(&["restart"]).succeeds();
    run(&["token", "--revoke-all"]).succeeds();
    run(&["stop"]).succeeds();
}

#[test]
fn directory_name_may_be_invalid_utf8() {
    use std::os::unix::ffi::OsStrExt as _;

    let home = Home::new();
    let directory = home.path().join(std::ffi::OsStr::from_bytes(b"caf\xe9"));
    fs::create_dir(&directory).unwrap();
    Outcome::run(home.fullon(["start"]).current_dir(&directory)).succeeds();
    Outcome::run(home.fullon(["status"]).current_dir(&directory)).succeeds();
    home.run(["restart"]).succeeds();
    home.run(["restart", "--hard"])
        .exits(1)
        .stderr_contains(&["Nothing has changed"]);
    home.run(["stop"]).succeeds();
}

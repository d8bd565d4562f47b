//! When the admin API is unreachable, commands fall back to the PID file and the log file, and
//! report it.

use std::fs;
use std::path::Path;

use fullon_master_api::instance::StateFile;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Home, Outcome, eventually, install_program, running_as_root};

/// Runs the command in its own network namespace, where no packet reaches the daemon. Signals and
/// files are the same.
fn run_without_network(home: &Home, arguments: &[&str]) -> Outcome {
    let mut command = home.command("unshare");
    command
        .arg("--net")
        .arg(env!("CARGO_BIN_EXE_fullon"))
        .args(arguments);
    Outcome::run(&mut command)
}

#[test]
fn commands_work_while_admin_port_is_blocked() {
    if !running_as_root("commands_work_while_admin_port_is_blocked") {
        return;
    }
    let home = Home::started();
    let pid = home.state().pid.to_string();
    let server = home.state().server;
    run_without_network(&home, &["status"])
        .succeeds()
        .stdout_contains(&[
            "Running",
            &pid,
            &server,
            &home.log_file().display().to_string(),
        ])
        .stderr_contains(&["cannot be reached", "PID file and its lock"]);
    let json = run_without_network(&home, &["status", "--json"])
        .succeeds()
        .json();
    assert_eq!(
        (&json["state"], &json["via"]),
        (&"running".into(), &"pid_file".into())
    );
    run_without_network(&home, &["logs", "--no-follow", "--lines", "5"])
        .succeeds()
        .stdout_contains(&["ready version="])
        .stderr_contains(&["cannot be reached", "reading"]);
    run_without_network(&home, &["restart"])
        .succeeds()
        .stderr_contains(&["cannot be reached", "sending SIGUSR2"])
        .stdout_contains(&[&format!("(was {pid})")]);
    run_without_network(&home, &["reload"])
        .succeeds()
        .stderr_contains(&["sending SIGHUP"])
        .stdout_contains(&["Sent SIGHUP to PID"]);
    eventually("the daemon reloads", || {
        home.log().contains(" reloaded by=\"SIGHUP\"")
    });
    run_without_network(&home, &["restart", "--hard"])
        .succeeds()
        .stderr_contains(&["sending SIGTERM"]);
    run_without_network(&home, &["stop"])
        .succeeds()
        .stdout_contains(&["Daemon stopped (by SIGTERM)"])
        .stderr_contains(&["cannot be reached", "sending SIGTERM"]);
    assert!(!home.pid_file().exists());
    assert!(
        home.log().ends_with("stopped\n"),
        "the stop was not graceful"
    );
}

#[test]
fn commands_work_while_daemon_is_suspended() {
    let home = Home::started();
    let daemon = home.daemon().unwrap();
    kill(Pid::from_raw(daemon.pid().cast_signed()), Signal::SIGSTOP).unwrap();
    home.run(["status"])
        .succeeds()
        .stdout_contains(&[
            "Running (admin API does not answer)",
            &daemon.pid().to_string(),
        ])
        .stderr_contains(&["no answer within 2s"]);
    home.run(["logs", "--no-follow"])
        .succeeds()
        .stdout_contains(&["ready version="])
        .stderr_contains(&["no answer within 2s", "reading"]);
    home.run(["stop"])
        .succeeds()
        .stdout_contains(&["Daemon stopped (by SIGTERM)"])
        .stderr_contains(&["no answer within 2s", "sending SIGTERM"]);
    assert!(daemon.has_exited());
    assert!(
        home.log().ends_with("stopped\n"),
        "the stop was not graceful"
    );
}

#[test]
fn commands_work_after_secret_was_edited() {
    let home = Home::started();
    let secret = "another-secret-that-is-long-enough-to-be-one";
    home.write_env(&format!("JWT_SECRET_KEY={secret}\n"));

    // The state file of the daemon is enough.
    let status = home
        .run(["status"])
        .succeeds()
        .stdout_contains(&["Status:    Running\n"]);
    assert!(status.stderr.is_empty(), "{status:#?}");
    home.run(["logs", "--no-follow"])
        .succeeds()
        .stdout_contains(&["ready version="]);

    // With `--admin-url` and without a state file, the secret would sign. The daemon has another
    // one. That is not the same as unreachable.
    let admin = home.state().admin;
    fs::remove_file(StateFile::path(&home.pid_file())).unwrap();
    let refused = ["rejected the token", "signed with another key"];
    home.run(["--admin-url", &admin, "status"])
        .exits(4)
        .stdout_contains(&refused);

    // Without a state file, no command guesses address and key.
    let mut home = home;
    home.set("ADMIN_PORT", admin.rsplit_once(':').unwrap().1);
    let refused = ["address of the admin API is unknown", "No such file"];
    home.run(["status"])
        .succeeds()
        .stdout_contains(&["Running (address of the admin API unknown)"])
        .stderr_contains(&refused);
    home.run(["logs", "--no-follow"])
        .succeeds()
        .stdout_contains(&["ready version="])
        .stderr_contains(&refused);
    home.run(["stop"])
        .succeeds()
        .stdout_contains(&["Daemon stopped (by SIGTERM)"])
        .stderr_contains(&refused);
    assert!(home.daemon().is_none());
}

#[test]
fn explicit_admin_url_never_falls_back() {
    let home = Home::started();
    // Nothing listens on port 1. It could be a tunnel to another machine.
    let closed_address = "http://127.0.0.1:1";
    home.run(["--admin-url", closed_address, "status"])
        .exits(4)
        .stdout_contains(&["Unknown", "cannot be reached"]);
    home.run(["--admin-url", closed_address, "stop"])
        .exits(1)
        .stderr_contains(&["cannot be reached"]);
    home.run(["--admin-url", closed_address, "logs", "--no-follow"])
        .exits(1)
        .stderr_contains(&["cannot be reached"]);
    home.run(["--admin-url", closed_address, "restart"])
        .exits(1)
        .stderr_contains(&["cannot be reached"]);
    home.run(["--admin-url", closed_address, "restart", "--hard"])
        .exits(1)
        .stderr_contains(&["--admin-url names another daemon"]);
    home.run(["--admin-url", "ftp://x", "status"])
        .exits(2)
        .stderr_contains(&["--admin-url", "http://"]);
    home.run(["status"]).succeeds();

    let own_address = home.state().admin;
    home.run(["--admin-url", &own_address, "status"]).succeeds();
    home.run(["--admin-url", &own_address, "stop"]).succeeds();
}

#[test]
fn logs_follow_falls_back_to_file_and_ends_with_daemon() {
    let home = Home::started();
    fs::remove_file(StateFile::path(&home.pid_file())).unwrap();
    let mut follow = home.fullon(["logs"]);
    let child = follow
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    home.run(["stop"]).succeeds();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains(" ready version=") && text.ends_with(" stopped\n"),
        "{text}"
    );
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("end of the log")
    );
}

#[test]
fn daemon_of_another_pid_file_is_stopped_only_by_address() {
    let mut home = Home::started();
    let daemon = home.daemon().unwrap();
    let admin = home.state().admin;
    home.set("ADMIN_PORT", admin.rsplit_once(':').unwrap().1);
    let other = home.path().join("other.pid");
    home.set("PID_FILE", other.to_str().unwrap());
    home.run(["status"]).exits(3);
    home.run(["stop"])
        .exits(1)
        .stdout_contains(&["not running"]);
    assert!(!daemon.has_exited());
    home.run(["--admin-url", &admin, "stop"])
        .succeeds()
        .stdout_contains(&["Daemon stopped\n"]);
    assert!(daemon.has_exited());
}

/// Two daemons have the same key, and one has lost its state file. The other one listens at the
/// configured address.
#[test]
fn other_daemon_at_configured_address_is_not_mistaken_for_ours() {
    let other_daemon = Home::started();
    let mut home = Home::new();
    fs::copy(
        other_daemon.path().join(".fullon_master_api.key"),
        home.path().join(".fullon_master_api.key"),
    )
    .unwrap();
    home.run(["start"]).succeeds();
    let daemon = home.daemon().unwrap();
    fs::remove_file(StateFile::path(&home.pid_file())).unwrap();
    let admin = other_daemon.state().admin;
    home.set("ADMIN_PORT", admin.rsplit_once(':').unwrap().1);
    home.run(["status"])
        .succeeds()
        .stdout_contains(&[&daemon.pid().to_string()])
        .stderr_contains(&["address of the admin API is unknown"]);
    home.run(["stop"])
        .succeeds()
        .stdout_contains(&["Daemon stopped (by SIGTERM)"])
        .stderr_contains(&["address of the admin API is unknown"]);
    assert!(daemon.has_exited());
    other_daemon.run(["status"]).succeeds();
}

#[test]
fn daemon_of_another_user_keeps_its_user_after_restart() {
    if !running_as_root("daemon_of_another_user_keeps_its_user_after_restart") {
        return;
    }
    let home = Home::new();
    let nobody = "65534";
    let chown = Outcome::run(home.command("chown").args(["-R", nobody]).arg(home.path()));
    chown.succeeds();
    let program = home.path().join("fullon");
    install_program(Path::new(env!("CARGO_BIN_EXE_fullon")), &program);
    let mut start = home.command("setpriv");
    start
        .args(["--reuid", nobody, "--regid", nobody, "--clear-groups"])
        .arg(&program)
        .arg("start");
    Outcome::run(&mut start).succeeds();
    let pid = home.daemon().unwrap().pid();
    home.run(["restart", "--hard"]).exits(1).stderr_contains(&[
        "belongs to nobody",
        "sudo -u nobody -H fullon restart --hard",
    ]);
    assert_eq!(home.daemon().unwrap().pid(), pid);
    home.run(["restart"]).succeeds();
    let new_process = home.daemon().unwrap();
    assert_ne!(new_process.pid(), pid);
    assert_eq!(new_process.owner_uid(), Some(65534));
    home.run(["status"]).succeeds();
    home.run(["stop"])
        .succeeds()
        .stdout_contains(&["Daemon stopped\n"]);
}

//! The daemon of this machine, found by its PID file and state file.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use fullon_master_api::instance::StateFile;

use super::{COMMANDS, run_all, squat, squat_after_kill, squat_while_draining, starting_daemon};
use crate::doctor::{as_nobody, home_of_nobody};
use crate::support::{Home, Outcome, eventually, running_as_root};

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
    let fake = squat_after_kill(&mut home);
    home.run(["status"]).exits(1).stdout_contains(&["Dead"]);
    // `restart` removes the PID file when it fails to start a daemon. Then only the state file is
    // left.
    run_all(&home, &COMMANDS);
    assert!(!home.pid_file().exists());
    assert!(StateFile::path(&home.pid_file()).exists());
    run_all(&home, &COMMANDS);
    assert_eq!(fake.connections(), 0, "{}", fake.received());
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
    fs::set_permissions(home.path(), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(home.pid_file(), Permissions::from_mode(0o644)).unwrap();
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

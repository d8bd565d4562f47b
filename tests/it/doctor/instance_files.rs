//! PID file and state file, and their owners.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::process::Command;

use fullon_master_api::instance::StateFile;

use fullon_master_api::sys::Process;

use super::{
    Expected, as_nobody, assert_doctor_finds, assert_doctor_of_nobody_finds, assert_findings,
    fix_admin_port, give_to_nobody, home_of_nobody, port_of, random_key, set_mode,
};
use crate::support::{
    Home, Outcome, eventually, lock_file, running_as_root, spawn, unrelated_process,
};

#[test]
fn stale_pid_file_is_reported_with_current_owner_of_pid() {
    let home = Home::started();
    let killed_daemon = home.daemon().unwrap();
    killed_daemon.kill().unwrap();
    assert!(killed_daemon.wait_for_exit(crate::support::DEADLINE));
    let ended = format!("(PID {}) crashed or was killed", killed_daemon.pid());
    assert_doctor_finds(
        &home,
        0,
        &[(
            "PID file",
            "warning",
            &["is stale", &ended, "`fullon start` takes over"],
        )],
    );

    let mut other_process = unrelated_process();
    let name = format!("another program: sleep (PID {})", other_process.0.id());
    fs::write(home.pid_file(), other_process.0.id().to_string()).unwrap();
    let words = [
        "is stale",
        &*name,
        "do not signal that program; `fullon start`",
    ];
    assert_doctor_finds(&home, 0, &[("PID file", "warning", &words)]);
    assert!(other_process.is_alive());
    fs::write(home.pid_file(), "").unwrap();
    assert_doctor_finds(&home, 0, &[("PID file", "warning", &["contains no PID"])]);

    home.run(["start"]).succeeds();
    let daemon = home.daemon().unwrap();
    fs::write(home.pid_file(), other_process.0.id().to_string()).unwrap();
    let number = format!("the PID in the file is {}", other_process.0.id());
    let words = ["held by", &*daemon.describe(), &number, "fullon restart"];
    let crashed = format!("(PID {}) crashed", killed_daemon.pid());
    assert_doctor_finds(
        &home,
        0,
        &[
            ("PID file", "warning", &words),
            ("daemon", "warning", &[&crashed, "`fullon status`"]),
        ],
    );
}

#[test]
fn removed_pid_file_of_running_daemon_is_reported() {
    let mut home = Home::started();
    fix_admin_port(&mut home);
    let daemon = home.daemon().unwrap();
    let finding: Expected<'_> = (
        "PID file",
        "error",
        &["while its daemon is running", "fullon stop"],
    );
    let moved = home.path().join("moved");
    fs::rename(home.pid_file(), &moved).unwrap();
    assert_doctor_finds(&home, 1, &[finding]);
    home.run(["doctor"])
        .exits(1)
        .stdout_contains(&["was removed while its daemon is running"]);
    File::create(home.pid_file()).unwrap();
    assert_doctor_finds(&home, 1, &[finding]);
    home.run(["doctor"])
        .exits(1)
        .stdout_contains(&["was replaced while its daemon is running"]);
    fs::rename(moved, home.pid_file()).unwrap();
    assert!(!daemon.has_exited());
}

#[test]
fn unusable_pid_file_is_reported() {
    let mut home = Home::new();
    let path = home.path().join("daemon.pid");
    home.set("PID_FILE", path.to_str().unwrap());

    symlink(home.path().join("target"), &path).unwrap();
    assert_doctor_finds(
        &home,
        1,
        &[(
            "PID file",
            "error",
            &["is a symbolic link", "another PID_FILE"],
        )],
    );
    fs::remove_file(&path).unwrap();

    let file = lock_file(&path);
    let words = ["is locked by another program", "lslocks"];
    assert_doctor_finds(&home, 1, &[("PID file", "error", &words)]);
    drop(file);

    home.set("PID_FILE", "/proc/nowhere/daemon.pid");
    let words = ["cannot be created: the directory /proc/nowhere does not exist"];
    assert_doctor_finds(&home, 1, &[("PID file", "error", &words)]);

    // A directory is no valid PID_FILE, but everything else is still checked.
    home.set("PID_FILE", home.path().display().to_string().as_str());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    home.set("PORT", &listener.local_addr().unwrap().port().to_string());
    assert_doctor_finds(
        &home,
        2,
        &[
            (
                "settings",
                "error",
                &["PID_FILE", "is a directory", "in the environment"],
            ),
            ("PORT", "warning", &["is in use by", "it may be the daemon"]),
        ],
    );
}

#[test]
fn files_of_another_user_are_reported() {
    if !running_as_root("files_of_another_user_are_reported") {
        return;
    }
    let home = Home::new();
    fs::write(home.pid_file(), "").unwrap();
    fs::write(home.log_file(), "").unwrap();
    give_to_nobody(&[&home.pid_file(), &home.log_file()]);
    assert_doctor_finds(
        &home,
        1,
        &[
            (
                "PID file",
                "error",
                &["belongs to another user", "another PID_FILE"],
            ),
            (
                "log",
                "error",
                &["belongs to another user", "another LOG_FILE"],
            ),
        ],
    );

    let home = home_of_nobody();
    fs::write(home.path().join(".fullon_master_api.key"), "k".repeat(64)).unwrap();
    fs::write(home.path().join(".env"), "PORT=0\n").unwrap();
    set_mode(&home.path().join(".env"), 0o600);
    set_mode(&home.path().join(".fullon_master_api.key"), 0o644);
    assert_doctor_of_nobody_finds(
        &home,
        2,
        &[
            (
                ".env",
                "error",
                &["Permission denied", "run this as the file's owner"],
            ),
            (
                "signing key",
                "error",
                &["belongs to another user", "move the file away"],
            ),
        ],
    );
}

#[test]
fn unwritable_directories_are_reported() {
    if !running_as_root("unwritable_directories_are_reported") {
        return;
    }
    let home = Home::new();
    set_mode(home.path(), 0o755);
    let unwritable = format!("this user cannot write to {}", home.path().display());
    assert_doctor_of_nobody_finds(
        &home,
        1,
        &[
            (
                "signing key",
                "error",
                &[".key cannot be created", &unwritable, "set HOME"],
            ),
            (
                "PID file",
                "error",
                &[".pid cannot be created", &unwritable, "set PID_FILE"],
            ),
            (
                "log",
                "error",
                &[
                    "fullon.log cannot be created",
                    &unwritable,
                    "another LOG_FILE",
                ],
            ),
        ],
    );
    fs::write(home.pid_file(), "").unwrap();
    fs::write(home.log_file(), "").unwrap();
    fs::write(home.path().join(".fullon_master_api.key"), random_key()).unwrap();
    set_mode(&home.path().join(".fullon_master_api.key"), 0o600);
    give_to_nobody(&[
        &home.pid_file(),
        &home.log_file(),
        &home.path().join(".fullon_master_api.key"),
    ]);
    assert_doctor_of_nobody_finds(
        &home,
        1,
        &[
            (
                "PID file",
                "error",
                &[".state cannot be created", &unwritable, "set PID_FILE"],
            ),
            (
                "log",
                "warning",
                &["cannot be rotated", &unwritable, "set LOG_FILE"],
            ),
        ],
    );
}

#[test]
fn daemon_of_another_user_is_checked_as_permitted() {
    if !running_as_root("daemon_of_another_user_is_checked_as_permitted") {
        return;
    }
    let mut home = Home::started();
    fix_admin_port(&mut home);
    let public = home.public_address();
    home.set("PORT", port_of(&public));
    home.set("PID_FILE", home.pid_file().display().to_string().as_str());
    home.set("JWT_SECRET_KEY", &random_key());
    set_mode(home.path(), 0o755);
    let in_use: &[&str] = &[
        "in use by a program of root, which this user cannot inspect",
        "it may be",
    ];
    assert_doctor_of_nobody_finds(
        &home,
        1,
        &[
            (
                "PID file",
                "error",
                &[
                    "cannot be opened",
                    "Permission denied",
                    "as the file's owner",
                ],
            ),
            ("PORT", "warning", in_use),
            ("ADMIN_PORT", "warning", in_use),
            ("log", "error", &["belongs to another user", "LOG_FILE"]),
        ],
    );
    set_mode(&home.pid_file(), 0o644);
    let number = format!("(PID in the file: {})", home.state().pid);
    assert_doctor_of_nobody_finds(
        &home,
        1,
        &[
            (
                "PID file",
                "warning",
                &["cannot inspect", &number, "or as root"],
            ),
            (
                "state file",
                "warning",
                &["Permission denied", "as the daemon's user"],
            ),
            (
                "admin API",
                "error",
                &["unknown without a usable state file", "--admin-url"],
            ),
        ],
    );

    // Root may read everything, but does not take it for its own.
    let home = home_of_nobody();
    Outcome::run(&mut as_nobody(&home, &["start"])).succeeds();
    assert_doctor_finds(&home, 0, &[]);
    let from_elsewhere = || {
        let mut command = home.fullon(["doctor", "--json"]);
        Outcome::run(command.current_dir("/"))
    };
    // Nor does it read files that the state file of another user names.
    fs::write(home.path().join(".env"), "LOG_KEEP=x").unwrap();
    let edited = (
        "settings",
        "warning",
        &["LOG_KEEP changed in .env, not active"][..],
    );
    assert_findings(&from_elsewhere(), 0, &[edited]);
    fs::remove_file(StateFile::path(&home.pid_file())).unwrap();
    assert_findings(
        &from_elsewhere(),
        1,
        &[
            (
                "state file",
                "warning",
                &["No such file", "run this as the daemon's user"],
            ),
            (
                "admin API",
                "error",
                &["unknown without a usable state file"],
            ),
        ],
    );
}

#[test]
fn control_characters_of_process_names_are_removed() {
    let home = Home::new();
    let program = home.path().join("\u{1b}[31mevil");
    fs::copy("/bin/sleep", &program).unwrap();
    let other_process = spawn(Command::new(&program).arg("600"));
    fs::write(home.pid_file(), other_process.0.id().to_string()).unwrap();
    eventually("the process has its name", || {
        let process = Process::open(other_process.0.id()).unwrap();
        process.describe().contains("evil")
    });
    let outcome = home
        .run(["doctor"])
        .succeeds()
        .stdout_contains(&["evil (PID"]);
    assert!(!outcome.stdout.contains('\u{1b}'), "{outcome:#?}");
}

//! Files and answers of another user make nobody signal a process, start a program, read a file or
//! give one away. That matters most for root, who may read and do anything.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use fullon_master_api::config::Secret;
use fullon_master_api::instance::StateFile;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::doctor::{as_nobody, give_to_nobody, home_of_nobody, set_mode};
use crate::listener_proof::starting_daemon;
use crate::support::{
    DEADLINE, FakeApi, Home, Outcome, SetOnDrop, TestSession, file_mode, install_program,
    running_as_root, unrelated_process,
};

const NOBODY: u32 = 65534;
const PRECIOUS: &str = "an-obviously-made-up-secret-of-root";

/// Writes the state file of this home: the one of a daemon that has run there, with changes.
fn write_state(home: &Home, state: &Value, changes: &Value) {
    let mut state = state.clone();
    for (name, value) in changes.as_object().unwrap() {
        state[name] = value.clone();
    }
    let path = StateFile::path(&home.pid_file());
    fs::write(&path, state.to_string()).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
}

fn read_state(home: &Home) -> Value {
    let text = fs::read_to_string(StateFile::path(&home.pid_file())).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Runs a daemon, and returns its state file after its end.
fn state_of_former_daemon(home: &Home) -> Value {
    home.run(["start"]).succeeds();
    let state = read_state(home);
    home.run(["stop"]).succeeds();
    state
}

/// A file that only root can read.
fn precious_file(home: &Home, name: &str) -> PathBuf {
    let path = home.path().join(name);
    fs::write(&path, format!("{PRECIOUS}\n")).unwrap();
    set_mode(&path, 0o600);
    path
}

fn owner(path: &Path) -> u32 {
    fs::metadata(path).unwrap().uid()
}

/// An answer to `stop` that names another process, as a forged one would, or one of a daemon in
/// another PID namespace.
#[test]
fn stop_signals_no_process_that_only_the_answer_names() {
    let home = Home::started();
    let daemon = home.daemon().unwrap();
    let mut named = unrelated_process();
    let answer = json!({
        "phase": "draining", "in_flight": 0, "pid": named.0.id(),
        "deadline": "2020-01-01T00:00:00Z", "seconds_left": 0.0,
    });
    let fake = FakeApi::start(&Secret::new("any".repeat(20)), &answer.to_string());
    let admin = json!({ "admin": fake.url() });
    write_state(&home, &read_state(&home), &admin);
    let signal = format!("sending SIGTERM to process {}", daemon.pid());
    home.run(["stop"])
        .succeeds()
        .stdout_contains(&["Daemon stopped (by SIGTERM)"])
        .stderr_contains(&["did not exit by its deadline", &signal]);
    assert!(fake.received().contains("POST /admin/stop"));
    assert!(daemon.has_exited());
    assert!(named.is_alive());
}

/// `AmbientCapabilities=` of a systemd unit, or a file capability of the program.
#[test]
fn daemon_with_capabilities_is_said_to_have_them() {
    if !running_as_root("daemon_with_capabilities_is_said_to_have_them") {
        return;
    }
    // Not `nobody`: in a user namespace, that may be any user.
    let user = 54321;
    let home = Home::new();
    chown(home.path(), Some(user), Some(user)).unwrap();
    let program = home.path().join("fullon");
    install_program(Path::new(env!("CARGO_BIN_EXE_fullon")), &program);
    let run = |options: &[&str], arguments: &[&str]| {
        let mut command = home.command("setpriv");
        command
            .arg(format!("--reuid={user}"))
            .arg("--clear-groups")
            .args(options)
            .arg(&program)
            .args(arguments);
        Outcome::run(&mut command)
    };
    let capability = [
        "--inh-caps=+net_bind_service",
        "--ambient-caps=+net_bind_service",
    ];
    let with_capability = |arguments| run(&capability, arguments);
    let without = |arguments| run(&[], arguments);
    with_capability(&["start"]).succeeds();
    without(&["status"]).succeeds();
    without(&["doctor"]).succeeds().stdout_contains(&[
        "cannot inspect",
        "has capabilities",
        "or run the command as root",
    ]);
    let daemon = home.daemon().unwrap();
    daemon.send_signal(Signal::STOP).unwrap();
    without(&["stop"]).exits(1).stderr_contains(&[
        "no answer within",
        "has capabilities",
        "or run the command as root",
    ]);
    with_capability(&["stop"]).succeeds();
    assert!(daemon.has_exited());
}

/// The owner of the PID file can pass its lock to a program of root.
#[test]
fn process_of_another_user_than_the_pid_file_is_no_daemon() {
    if !running_as_root("process_of_another_user_than_the_pid_file_is_no_daemon") {
        return;
    }
    let home = home_of_nobody();
    let state = state_of_former_daemon(&home);
    let mut process = starting_daemon(&home);
    let env_file = home.path().join("its.env");
    fs::write(&env_file, "LOG_KEEP=7\n").unwrap();
    let marker = home.path().join("started");
    write_state(
        &home,
        &state,
        &json!({
            "pid": process.0.id(), "exit": null, "in_background": true, "env_file": env_file,
            "flags": { "LOG_FILE": marker, "PID_FILE": home.pid_file() },
        }),
    );
    fs::write(home.pid_file(), process.0.id().to_string()).unwrap();
    give_to_nobody(&[
        &home.pid_file(),
        &StateFile::path(&home.pid_file()),
        &env_file,
    ]);
    home.run(["restart", "--hard"])
        .exits(1)
        .stderr_contains(&["belongs to nobody", "if you trust that user"]);
    for command in ["stop", "reload", "restart"] {
        home.run([command]).exits(1);
    }
    assert!(process.is_alive());
    assert!(!marker.exists());
}

/// Another user who can write to the directory can replace the state file of a daemon of root.
#[test]
fn root_starts_nothing_as_a_state_file_of_another_user_says() {
    if !running_as_root("root_starts_nothing_as_a_state_file_of_another_user_says") {
        return;
    }
    let home = home_of_nobody();
    home.run(["start"]).succeeds();
    let daemon = home.daemon().unwrap();
    let marker = home.path().join("started");
    let state = read_state(&home);
    let flags = json!({ "flags": { "LOG_FILE": marker, "PID_FILE": home.pid_file() } });
    write_state(&home, &state, &flags);
    give_to_nobody(&[&StateFile::path(&home.pid_file())]);
    home.run(["restart", "--hard"]).exits(1).stderr_contains(&[
        "belongs to nobody",
        "sudo -u nobody -H fullon restart --hard",
    ]);
    assert!(!daemon.has_exited());
    assert!(!marker.exists());
}

#[test]
fn daemon_of_root_continues_no_state_file_of_another_user() {
    if !running_as_root("daemon_of_root_continues_no_state_file_of_another_user") {
        return;
    }
    let mut home = home_of_nobody();
    let port = crate::support::free_port();
    home.set("ADMIN_PORT", &port.to_string());
    home.run(["start"]).succeeds();
    let signed_in = home.call_admin("POST", "/admin/session");
    let session = TestSession::from(&signed_in);
    let ends = |home: &Home| {
        let daemon = home.daemon().unwrap();
        daemon.kill().unwrap();
        assert!(daemon.wait_for_exit(DEADLINE));
        read_state(home)
    };
    let state = ends(&home);
    let log = precious_file(&home, "precious");
    write_state(&home, &state, &json!({ "log_file": log }));
    give_to_nobody(&[&StateFile::path(&home.pid_file())]);
    home.run(["start"]).succeeds();
    let status = home.run(["status", "--json"]).succeeds();
    assert!(!status.stdout.contains(PRECIOUS), "{}", status.stdout);
    assert_eq!(status.json()["status"]["last_exit"], Value::Null);
    let sessions = home.run(["sessions", "--json"]).succeeds().stdout;
    assert!(!sessions.contains("\"id\""), "{sessions} {session:?}");
}

#[test]
fn log_file_that_a_state_file_of_another_user_names_is_not_read() {
    if !running_as_root("log_file_that_a_state_file_of_another_user_names_is_not_read") {
        return;
    }
    let home = home_of_nobody();
    Outcome::run(&mut as_nobody(&home, &["start"])).succeeds();
    let daemon = home.daemon().unwrap();
    let precious = precious_file(&home, "precious");
    let changes = json!({ "log_file": precious, "admin": "http://127.0.0.1:1" });
    write_state(&home, &read_state(&home), &changes);
    give_to_nobody(&[&StateFile::path(&home.pid_file())]);
    for arguments in [&["logs", "--no-follow"][..], &["logs"]] {
        let outcome = home.run(arguments.iter().copied()).exits(1);
        assert!(!outcome.stdout.contains(PRECIOUS), "{outcome:?}");
        outcome.stderr_contains(&["a state file of nobody", "it is not read"]);
    }
    home.run(["stop"]).succeeds();
    assert!(daemon.has_exited());
}

/// In a sticky directory, nobody can remove a file of another user.
#[test]
fn planted_temporary_file_blocks_nothing() {
    if !running_as_root("planted_temporary_file_blocks_nothing") {
        return;
    }
    let mut home = home_of_nobody();
    let shared = home.path().join("shared");
    fs::create_dir(&shared).unwrap();
    set_mode(&shared, 0o1777);
    let pid_file = shared.join("it.pid");
    home.set("PID_FILE", pid_file.to_str().unwrap());
    let planted = shared.join("it.pid.state.new");
    fs::write(&planted, "x").unwrap();
    chown(&planted, Some(12345), Some(12345)).unwrap();
    for arguments in [
        &["start"][..],
        &["restart"],
        &["restart", "--hard"],
        &["reload"],
        &["stop"],
    ] {
        Outcome::run(&mut as_nobody(&home, arguments)).succeeds();
    }
    let state = StateFile::path(&pid_file);
    assert_eq!(file_mode(&state), 0o600);
    let text = fs::read_to_string(&state).unwrap();
    assert!(text.contains("\"stopped\""), "{text}");
    let mut names: Vec<_> = fs::read_dir(&shared)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["it.pid.state", "it.pid.state.new"]);
}

/// Root works in the home of another user, who puts other files in place of those that root
/// creates.
#[test]
fn root_gives_away_no_file_that_the_owner_of_the_home_puts_there() {
    if !running_as_root("root_gives_away_no_file_that_the_owner_of_the_home_puts_there") {
        return;
    }
    let home = home_of_nobody();
    let file = |name: &str| home.path().join(name);
    home.token("admin:read");
    give_to_nobody(&[&file(".fullon_master_api.key")]);
    let lock = file(".fullon_master_api.revoked.lock");

    let precious = precious_file(&home, "precious");
    fs::hard_link(&precious, &lock).unwrap();
    home.run(["token", "--revoke", "an-id"])
        .exits(1)
        .stderr_contains(&["revoked.lock has more than one hard link"]);
    assert_eq!(owner(&precious), 0);
    fs::remove_file(&lock).unwrap();
    // A file of root that is in the same directory can be moved.
    fs::rename(&precious, &lock).unwrap();
    home.run(["token", "--revoke", "an-id"]).succeeds();
    assert_eq!(owner(&lock), 0);
    fs::remove_file(&lock).unwrap();
    // Root creates what the daemon of that user has to read.
    home.run(["token", "--revoke", "an-id"]).succeeds();
    for name in [
        ".fullon_master_api.revoked.lock",
        ".fullon_master_api.revoked",
    ] {
        assert_eq!(owner(&file(name)), NOBODY, "{name}");
    }

    let precious = precious_file(&home, "precious");
    let (new, link) = (file(".fullon_master_api.key.new"), file("link"));
    let key = file(".fullon_master_api.key");
    let ended = AtomicBool::new(false);
    let swapped = AtomicBool::new(false);
    thread::scope(|scope| {
        let _end = SetOnDrop(&ended);
        scope.spawn(|| {
            symlink(&precious, &link).unwrap();
            while !ended.load(Ordering::Relaxed) {
                if new.exists() && fs::rename(&link, &new).is_ok() {
                    swapped.store(true, Ordering::Relaxed);
                    return;
                }
            }
        });
        for _ in 0..100 {
            home.run(["token", "--revoke-all"]);
            if swapped.load(Ordering::Relaxed) {
                break;
            }
        }
    });
    assert_eq!(owner(&precious), 0);
    if swapped.into_inner() {
        let _ = fs::remove_file(&key);
        home.token("admin:read");
        give_to_nobody(&[&key]);
    }
    home.run(["token", "--revoke-all"]).succeeds();
    assert_eq!((owner(&key), file_mode(&key)), (NOBODY, 0o600));
}

/// The system says only "permission denied", with the name of the file.
#[test]
fn directory_that_may_not_be_entered_is_named() {
    if !running_as_root("directory_that_may_not_be_entered_is_named") {
        return;
    }
    let home = home_of_nobody();
    let closed = home.path().join("closed");
    let inner = closed.join("inner");
    fs::create_dir_all(&inner).unwrap();
    let link = home.path().join("link");
    std::os::unix::fs::symlink(&inner, &link).unwrap();
    for name in [
        "fullon.pid",
        "fullon.pid.state",
        "log",
        "audit",
        "secret",
        "ca.pem",
        ".env",
    ] {
        fs::write(inner.join(name), "").unwrap();
    }
    for directory in [&inner, &closed] {
        give_to_nobody(&[directory]);
    }
    let fails =
        |arguments: &[&str], (setting, name): (&str, &str), directory: &Path, bits: &str| {
            for through in [&inner, &link] {
                let file = through.join(name).display().to_string();
                let mut command = as_nobody(&home, arguments);
                if setting == "--env-file" {
                    command.args([setting, &file]);
                } else {
                    command.env(setting, &file);
                    command.env("DB_HOST", "127.0.0.1").env("DB_NAME", "app");
                    command.env("DB_SSLMODE", "verify-full");
                }
                let outcome = Outcome::run(&mut command);
                assert_ne!(outcome.code, 0, "{outcome:#?}");
                let shown = format!("{}{}", outcome.stdout, outcome.stderr);
                let words = format!(
                    "may not enter the directory {} ({bits}",
                    directory.display()
                );
                assert!(shown.contains(&words), "{setting}: {words}: {shown}");
                assert!(shown.contains(&file), "{setting}: {shown}");
            }
        };
    let settings = [
        ("PID_FILE", "fullon.pid"),
        ("LOG_FILE", "log"),
        ("LOG_FILE", "missing"),
        ("AUDIT_FILE", "audit"),
        ("DB_PASSWORD_FILE", "secret"),
        ("JWT_SECRET_KEY_FILE", "secret"),
        ("DB_SSLROOTCERT", "ca.pem"),
        ("--env-file", ".env"),
    ];
    // The first directory that denies, not the one of the file, and the command for it.
    set_mode(&closed, 0o600);
    let own = "mode 0600 of nobody), which needs the execute bit for its owner: run `chmod u+x";
    for setting in settings {
        fails(&["start"], setting, &closed, own);
        fails(&["doctor"], setting, &closed, own);
    }
    set_mode(&closed, 0o755);
    set_mode(&inner, 0o700);
    std::os::unix::fs::chown(&inner, Some(0), Some(0)).unwrap();
    let other = "mode 0700 of root), which needs the execute bit for other users: run `chmod o+x";
    for setting in settings {
        fails(&["start"], setting, &inner, other);
    }
    // A command that needs the daemon's files.
    fails(&["status"], settings[0], &inner, other);
    fails(&["stop"], settings[0], &inner, other);
}

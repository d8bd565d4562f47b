//! Revoking tokens in the files, while the API of the daemon cannot be reached.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use fullon_master_api::instance::StateFile;

use super::one::{call_on, kept_connection};
use super::{ALL, assert_accepted, assert_revoked, call, file, sign_in};
use crate::doctor::{as_nobody, home_of_nobody, set_mode};
use crate::support::{
    Connection, DEADLINE, Home, InstalledProgram, Outcome, eventually, jwt, preload_library,
    running_as_root,
};

fn audit_file(home: &Home) -> std::path::PathBuf {
    home.path().join("fullon.log.audit")
}

/// Runs a command of this home in another home directory.
fn run_elsewhere(home: &Home, other: &Home, arguments: &[&str]) -> Outcome {
    let mut command = home.fullon(arguments.iter().copied());
    command.env("HOME", other.path());
    command.env("PID_FILE", home.pid_file());
    Outcome::run(&mut command)
}

#[test]
fn command_changes_no_files_for_the_daemon_of_another_user() {
    if !running_as_root("command_changes_no_files_for_the_daemon_of_another_user") {
        return;
    }
    let home = home_of_nobody();
    Outcome::run(&mut as_nobody(&home, &["start"])).succeeds();
    let token = home.token(ALL);
    Outcome::run(&mut as_nobody(&home, &["stop"])).succeeds();
    let of_root = Home::new();
    for arguments in [
        &["token", "--revoke", &token][..],
        &["token", "--revoke-all"],
    ] {
        run_elsewhere(&home, &of_root, arguments)
            .exits(1)
            .stderr_contains(&[
                "nothing was revoked",
                "sudo -u nobody -H fullon token --revoke",
            ]);
        assert!(!file(&of_root).exists() && !file(&home).exists());
    }
    let revoke = ["token", "--revoke", &token];
    Outcome::run(&mut as_nobody(&home, &revoke)).succeeds();
    Outcome::run(&mut as_nobody(&home, &["start"])).succeeds();
    assert_revoked(&home, &token);
}

#[test]
fn command_with_another_home_changes_the_files_of_the_daemon() {
    let home = Home::started();
    let [token, other] = [(); 2].map(|()| home.token(ALL));
    home.run(["stop"]).succeeds();
    let elsewhere = Home::new();
    let path = file(&home).display().to_string();
    run_elsewhere(&home, &elsewhere, &["token", "--revoke", &token])
        .succeeds()
        .stdout_contains(&["No daemon is running", &path]);
    home.run(["start"]).succeeds();
    assert_revoked(&home, &token);
    assert_accepted(&home, &other);
    home.run(["stop"]).succeeds();
    let key = home.path().join(".fullon_master_api.key");
    run_elsewhere(&home, &elsewhere, &["token", "--revoke-all"])
        .succeeds()
        .stdout_contains(&[&path, &format!("replaced in {}", key.display())]);
    assert!(!file(&elsewhere).exists());
    home.run(["start"]).succeeds();
    assert_eq!(call(&home, &other).status, 401);
}

#[test]
fn command_revokes_while_daemon_drains() {
    let mut home = Home::new();
    home.set("SHUTDOWN_TIMEOUT", "60s");
    home.run(["start"]).succeeds();
    let [first, second] = [(); 2].map(|()| home.token(ALL));
    let daemon = home.daemon().unwrap();
    let request = home.unfinished_request();
    let address = home.admin_address();
    // A token of somebody else may choose how long it takes.
    let body = r#"{"timeout_seconds":3600}"#;
    let stopping = home.call_admin_with("POST", "/admin/stop", body);
    assert_eq!(stopping.status, 202, "{stopping:#?}");
    eventually("it accepts no connections", || {
        std::net::TcpStream::connect(&address).is_err()
    });
    home.run(["token", "--revoke", &first])
        .succeeds()
        .stdout_contains(&["The token is revoked", "The running daemon reads it from"])
        .stderr_contains(&["cannot be reached"]);
    home.run(["token", "--revoke-all"])
        .succeeds()
        .stdout_contains(&["All tokens are revoked", "Signing key: replaced"])
        .stderr_contains(&["cannot be reached"]);
    assert!(!daemon.has_exited());
    drop(request);
    assert!(daemon.wait_for_exit(DEADLINE));
    home.run(["audit", "--verify"]).succeeds();
    home.run(["start"]).succeeds();
    for token in [&first, &second] {
        assert_eq!(call(&home, token).status, 401);
    }
}

/// The API answers 409 at first.
#[test]
fn command_revokes_all_while_daemon_stops() {
    let mut home = Home::new();
    home.set("DRAIN_DELAY", "2s");
    home.run(["start"]).succeeds();
    let token = home.token(ALL);
    thread::scope(|scope| {
        let stop = scope.spawn(|| home.run(["stop"]));
        eventually("it stops", || home.log().contains(" stopping "));
        home.run(["token", "--revoke-all"])
            .succeeds()
            .stdout_contains(&["All tokens are revoked"]);
        stop.join().unwrap().succeeds();
    });
    home.run(["start"]).succeeds();
    assert_eq!(call(&home, &token).status, 401);
}

/// A key that is exported for `--admin-url` is not that of the daemon here.
#[test]
fn command_ends_the_generated_key_although_its_shell_has_another() {
    for has_state in [true, false] {
        let home = Home::started();
        let key_file = home.path().join(".fullon_master_api.key");
        let key = fs::read_to_string(&key_file).unwrap();
        home.run(["stop"]).succeeds();
        if !has_state {
            fs::remove_file(StateFile::path(&home.pid_file())).unwrap();
        }
        let mut command = home.fullon(["token", "--revoke-all"]);
        command.env("JWT_SECRET_KEY", jwt::made_up_secret("of another daemon"));
        Outcome::run(&mut command)
            .succeeds()
            .stdout_contains(&["Signing key: replaced"]);
        assert_ne!(fs::read_to_string(&key_file).unwrap(), key);
    }
}

/// The holder of a control token restarts the daemon without end.
#[test]
fn command_revokes_all_during_endless_restarts() {
    let home = Home::started();
    let token = home.token(ALL);
    let address = home.admin_address();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let head = format!(
                    "POST /admin/restart HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
                );
                while !is_over.load(Ordering::Relaxed) {
                    let Ok(mut stream) = TcpStream::connect(&address) else {
                        continue;
                    };
                    let mut answer = Vec::new();
                    let _ = stream.write_all(head.as_bytes());
                    let _ = stream.read_to_end(&mut answer);
                }
            });
        }
        let generation = || home.state().generation;
        let restarted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            eventually("it was restarted", || generation() > 2);
            home.run(["token", "--revoke-all"])
        }));
        let refused = restarted
            .as_ref()
            .is_ok()
            .then(|| call(&home, &token).status);
        is_over.store(true, Ordering::Relaxed);
        restarted
            .unwrap()
            .succeeds()
            .stdout_contains(&["All tokens are revoked", "Signing key: replaced"]);
        assert!(matches!(refused, Some(401 | 429)), "{refused:?}");
    });
    home.run(["status"]).succeeds();
    home.run(["audit", "--verify"]).succeeds();
    assert_accepted(&home, &home.token(ALL));
}

#[test]
fn command_revokes_during_a_restart_that_is_held() {
    let home = Home::new();
    let program = InstalledProgram::install_in(&home);
    program.start(&home);
    let [token, other] = [(); 2].map(|()| home.token(ALL));
    let mut kept: Vec<Connection> = (0..2).map(|_| kept_connection(&home, &token)).collect();
    let restart = super::one::hold_restart(&home, &program);
    home.run(["token", "--revoke", &other]).succeeds();
    assert_revoked(&home, &other);
    home.run(["token", "--revoke-all"])
        .succeeds()
        .stdout_contains(&["All tokens are revoked", "Signing key: replaced"])
        .stderr_contains(&["so the files were changed"]);
    assert_eq!(call(&home, &token).status, 401);
    assert_eq!(call_on(&mut kept.remove(0), &token).status, 401);
    assert_accepted(&home, &home.token(ALL));
    fs::remove_file(home.path().join("waiting")).unwrap();
    restart.join().unwrap().succeeds();
    assert_eq!(call(&home, &token).status, 401);
    assert_eq!(call_on(&mut kept.remove(0), &token).status, 401);
    assert_accepted(&home, &home.token(ALL));
}

#[test]
fn stopped_daemon_has_recorded_its_previous_key() {
    let home = Home::new();
    let [first, second] = ["first", "second"].map(jwt::made_up_secret);
    home.write_env(&format!("JWT_SECRET_KEY={first}\n"));
    home.run(["start"]).succeeds();
    home.write_env(&format!("JWT_SECRET_KEY={second}\n"));
    home.run(["reload"]).succeeds();
    assert_accepted(&home, &super::keys::forge(&first));
    home.run(["stop"]).succeeds();
    home.run(["token", "--revoke-all"]).succeeds();
    home.write_env(&format!("JWT_SECRET_KEY={first}\n"));
    home.run(["start"])
        .exits(1)
        .stderr_contains(&["JWT_SECRET_KEY", "--revoke-all"]);
}

#[test]
fn directory_that_cannot_be_synced_is_found_before_the_change() {
    if !running_as_root("directory_that_cannot_be_synced_is_found_before_the_change") {
        return;
    }
    let home = home_of_nobody();
    Outcome::run(&mut as_nobody(&home, &["start"])).succeeds();
    let token = home.token(ALL);
    Outcome::run(&mut as_nobody(&home, &["stop"])).succeeds();
    let key_file = home.path().join(".fullon_master_api.key");
    let key = fs::read(&key_file).unwrap();
    set_mode(home.path(), 0o300);
    for arguments in [
        &["token", "--revoke", &token][..],
        &["token", "--revoke-all"],
    ] {
        Outcome::run(&mut as_nobody(&home, arguments))
            .exits(1)
            .stderr_contains(&["nothing was revoked", "Permission denied"]);
        assert!(!file(&home).exists());
    }
    assert_eq!(fs::read(&key_file).unwrap(), key);
    set_mode(home.path(), 0o700);
}

#[test]
fn failed_sync_after_the_change_says_that_it_is_revoked() {
    let home = Home::started();
    let token = home.token(ALL);
    home.run(["stop"]).succeeds();
    let library = preload_library(&home, "fail_directory_sync");
    let key_file = home.path().join(".fullon_master_api.key");
    let key = fs::read(&key_file).unwrap();
    for arguments in [
        &["token", "--revoke", &token][..],
        &["token", "--revoke-all"],
    ] {
        let mut command = home.fullon(arguments.iter().copied());
        Outcome::run(command.env("LD_PRELOAD", &library))
            .exits(1)
            .stderr_contains(&["it is revoked, but a power cut may undo that", "repeat it"]);
    }
    assert_ne!(fs::read(&key_file).unwrap(), key);
    // The same in the daemon, which signs with the new key at once.
    let mut start = home.fullon(["start"]);
    Outcome::run(start.env("LD_PRELOAD", &library)).succeeds();
    let token = home.token(ALL);
    let answer = super::revoke(&home, &serde_json::json!({ "all": true }));
    answer.assert_problem(500, "it is revoked");
    assert_eq!(call(&home, &token).status, 401);
    assert_accepted(&home, &home.token(ALL));
}

#[test]
fn command_records_a_revocation_although_there_is_no_audit_file() {
    let home = Home::started();
    home.run(["stop"]).succeeds();
    fs::remove_file(audit_file(&home)).unwrap();
    let outcome = home.run(["token", "--revoke", "an-id"]).succeeds();
    assert_eq!(outcome.stderr, "");
    home.run(["audit"])
        .succeeds()
        .stdout_contains(&["revoke_tokens", "an-id"]);
    // The files of an unknown daemon may not be for root to create.
    if running_as_root("a notice that there is no record") {
        let home = Home::new();
        home.run(["token", "--revoke", "an-id"])
            .succeeds()
            .stderr_contains(&["the audit trail has no record", "does not exist"]);
        assert!(!audit_file(&home).exists());
    }
}

#[test]
fn id_of_a_session_or_a_part_of_a_token_is_not_taken_for_an_id_of_tokens() {
    let home = Home::started();
    let token = home.token(ALL);
    let session = sign_in(&home, &token);
    let own = session.request(&home.admin_address(), "GET", "/admin/session");
    let id = own.json()["id"].as_str().unwrap().to_owned();
    let header = token.split('.').next().unwrap();
    let assert_refused = || {
        home.run(["token", "--revoke", &id])
            .exits(1)
            .stderr_contains(&["that of a session", "fullon sessions --end"]);
        for part in [header, &header[..20]] {
            home.run(["token", "--revoke", part])
                .exits(1)
                .stderr_contains(&["malformed", "complete"]);
        }
    };
    assert_refused();
    home.run(["token", "--revoke", "an-id"])
        .succeeds()
        .stdout_contains(&["Tokens with this id are refused from now on"]);
    home.run(["stop"]).succeeds();
    assert_refused();
    home.run(["start"]).succeeds();
    assert_accepted(&home, &token);
}

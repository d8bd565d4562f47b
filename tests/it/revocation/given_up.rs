//! Requests that a command has given up: it has changed the files or sent a signal instead.

use std::thread;

use nix::sys::signal::Signal;

use super::{ALL, assert_accepted, file, session_status, sign_in};
use crate::support::{Home, eventually, jwt, lock_file, send_signal};

/// How often a line of the log has all these parts.
fn count(home: &Home, parts: &[&str]) -> usize {
    let log = home.log();
    let has_all = |line: &&str| parts.iter().all(|part| line.contains(part));
    log.lines().filter(has_all).count()
}

/// The daemon answers the request that a command has sent to it, when nobody waits for it. It may
/// notice that before the answer (499).
#[track_caller]
fn await_answer(home: &Home, path: &str, status: u16) {
    let path = format!("path=\"{path}\"");
    let answers = [status, 499].map(|status| format!("status={status}"));
    eventually("the daemon has answered the request", || {
        let counts = answers
            .each_ref()
            .map(|status| count(home, &[&path, status]));
        counts.iter().sum::<usize>() == 1
    });
}

/// It would end the tokens that were created meanwhile, and replace the key once more.
#[test]
fn daemon_that_was_paused_revokes_nothing_again() {
    thread::scope(|scope| {
        for secret in [None, Some(jwt::made_up_secret("kept"))] {
            scope.spawn(move || {
                let mut home = Home::new();
                if let Some(secret) = &secret {
                    home.set("JWT_SECRET_KEY", secret);
                }
                home.run(["start"]).succeeds();
                let pid = home.daemon().unwrap().pid();
                send_signal(pid, Signal::SIGSTOP);
                home.run(["token", "--revoke-all"])
                    .succeeds()
                    .stdout_contains(&["All tokens are revoked"])
                    .stderr_contains(&["so the files were changed", "no answer within 10s"]);
                let key = home.key();
                let token = home.token(ALL);
                send_signal(pid, Signal::SIGCONT);
                await_answer(&home, "/admin/tokens/revoke", 401);
                assert_eq!(home.key().expose(), key.expose());
                assert_accepted(&home, &token);
                home.run(["audit", "--verify"]).succeeds();
            });
        }
    });
}

/// The daemon has accepted the request, and waits until another process unlocks the list.
#[test]
fn daemon_that_was_paused_while_it_waits_revokes_nothing_again() {
    let home = Home::started();
    let pid = home.daemon().unwrap().pid();
    let lock = lock_file(&file(&home).with_extension("revoked.lock"));
    thread::scope(|scope| {
        let command = scope.spawn(|| home.run(["token", "--revoke-all"]));
        eventually("the daemon waits", || {
            count(&home, &["action=\"revoke_tokens\" outcome=\"accepted\""]) == 1
        });
        send_signal(pid, Signal::SIGSTOP);
        drop(lock);
        command
            .join()
            .unwrap()
            .succeeds()
            .stdout_contains(&["Signing key: replaced"]);
    });
    let key = home.key();
    let token = home.token(ALL);
    send_signal(pid, Signal::SIGCONT);
    await_answer(&home, "/admin/tokens/revoke", 409);
    assert_eq!(home.key().expose(), key.expose());
    assert_accepted(&home, &token);
}

#[test]
fn daemon_that_was_paused_carries_out_no_other_request_late() {
    let home = Home::started();
    let session = sign_in(&home, &home.token(ALL));
    let own = session.request(&home.admin_address(), "GET", "/admin/session");
    let id = own.json()["id"].as_str().unwrap().to_owned();
    let pid = home.daemon().unwrap().pid();
    send_signal(pid, Signal::SIGSTOP);
    home.run(["sessions", "--end", &id])
        .exits(1)
        .stderr_contains(&["no answer within 2s"]);
    home.run(["reload"])
        .succeeds()
        .stderr_contains(&["sending SIGHUP"]);
    send_signal(pid, Signal::SIGCONT);
    await_answer(&home, &format!("/admin/sessions/{id}"), 401);
    await_answer(&home, "/admin/reload", 401);
    eventually("the daemon has received SIGHUP", || {
        count(&home, &["reloaded", "by=\"SIGHUP\""]) == 1
    });
    assert_eq!(count(&home, &[" reloaded "]), 1);
    assert_eq!(session_status(&home, &session), 200);
}

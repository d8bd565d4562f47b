//! Signing out, and sessions that end for new ones.

use std::fs;
use std::path::PathBuf;

use super::{assert_refused, call_api, sign_in, status, with_current_port};
use crate::support::{Connection, Home, Response, eventually};

#[test]
fn sign_out_ends_one_session_and_is_audited() {
    let home = Home::started();
    let (cookie, other) = (sign_in(&home, "admin:read"), sign_in(&home, "admin:read"));
    let answer = sign_out(&home, &cookie);
    assert_eq!((answer.status, answer.body.as_str()), (204, ""));
    let (name, _) = cookie.split_once('=').unwrap();
    assert_eq!(
        answer.header("set-cookie"),
        Some(&*format!(
            "{name}=; HttpOnly; SameSite=Strict; Path=/; Max-Age=0"
        ))
    );
    assert_refused(&status(&home, &cookie), "ended");
    assert_refused(&sign_out(&home, &cookie), "ended");
    assert_eq!(status(&home, &other).status, 200);
    // A token has no session to end.
    assert_refused(
        &home.call_admin("DELETE", "/admin/session"),
        "the browser session is missing",
    );
    assert_refused(
        &call_api(&home, "DELETE", "/admin/session", &[]),
        "the browser session is missing",
    );
    assert_refused(
        &call_api(&home, "POST", "/admin/session", &[]),
        "fullon token",
    );

    home.run(["stop"]).succeeds();
    let log = home.log();
    let audit: Vec<_> = log
        .lines()
        .filter(|line| line.contains(" audit: "))
        .collect();
    let find = |parts: &[&str]| {
        let found = audit
            .iter()
            .find(|line| parts.iter().all(|part| line.contains(part)));
        (*found.unwrap_or_else(|| panic!("no {parts:?} in {audit:#?}"))).to_owned()
    };
    let sign_in_event = find(&["action=\"sign_in\"", "outcome=\"accepted\"", "token_id=\""]);
    let id = sign_in_event.split("session_id=").nth(1).unwrap();
    let id = id.split(' ').next().unwrap();
    find(&["action=\"sign_out\"", "outcome=\"accepted\"", id]);
    find(&["action=\"sign_out\" outcome=\"refused\"", "ended"]);
    let (_, value) = cookie.split_once('=').unwrap();
    assert!(!log.contains(value));
}

fn sign_out(home: &Home, cookie: &str) -> Response {
    let origin = format!("http://{}", home.admin_address());
    let headers = [("Cookie", cookie), ("Origin", origin.as_str())];
    call_api(home, "DELETE", "/admin/session", &headers)
}

#[test]
fn sign_out_fails_when_it_cannot_be_saved() {
    let home = Home::started();
    let cookie = sign_in(&home, "admin:read");
    let mut state = home.pid_file().into_os_string();
    state.push(".state.new");
    let obstacle = PathBuf::from(state);
    fs::create_dir(&obstacle).unwrap();
    sign_out(&home, &cookie).assert_problem(500, "state file");
    assert_refused(&status(&home, &cookie), "ended");
    // Nor does a restart succeed, whose new process would accept the session.
    home.run(["restart"])
        .exits(1)
        .stderr_contains(&["state file"]);
    fs::remove_dir(&obstacle).unwrap();
    home.restart();
    assert_refused(&status(&home, &cookie), "ended");
    assert!(
        home.log()
            .contains("action=\"sign_out\" outcome=\"failed\"")
    );
}

#[test]
fn signed_out_session_stays_ended_after_restart_and_crash() {
    let home = Home::started();
    let [before, after, other] = [(); 3].map(|()| sign_in(&home, "admin:read"));
    assert_eq!(sign_out(&home, &before).status, 204);
    home.restart();
    assert_refused(&status(&home, &before), "ended");
    assert_eq!(sign_out(&home, &after).status, 204);
    let killed = home.daemon().unwrap();
    killed.kill().unwrap();
    assert!(killed.wait_for_exit(crate::support::DEADLINE));
    home.run(["start"]).succeeds();
    for cookie in [&before, &after] {
        assert_refused(&status(&home, &with_current_port(&home, cookie)), "ended");
    }
    home.run(["restart", "--hard"]).succeeds();
    for cookie in [&before, &after] {
        assert_refused(&status(&home, &with_current_port(&home, cookie)), "ended");
    }
    assert_eq!(status(&home, &with_current_port(&home, &other)).status, 200);
}

#[test]
fn sign_out_ends_log_stream_of_session() {
    let home = Home::started();
    let [cookie, other] = [(); 2].map(|()| sign_in(&home, "admin:logs"));
    let follow = |cookie: &str| {
        let mut stream = Connection::open(&home.admin_address());
        let headers = [("Cookie", cookie)];
        stream.send("GET", "/admin/logs/stream?lines=0", &headers, "");
        assert_eq!(stream.read_head().status, 200);
        stream
    };
    let (mut stream, mut other_stream) = (follow(&cookie), follow(&other));
    assert_eq!(sign_out(&home, &cookie).status, 204);
    let rest = stream.read_to_end();
    assert!(
        rest.contains("event: end\n") && rest.contains(r#"{"reason":"signed_out"}"#),
        "{rest}"
    );
    home.log_request("still-followed");
    eventually("the other stream continues", || {
        other_stream.read_line().contains("still-followed")
    });
}

#[test]
fn sixty_fifth_session_ends_the_first() {
    let home = Home::started();
    let bearer = home.bearer();
    let headers = [("Authorization", bearer.as_str())];
    let sessions: Vec<_> = (0..65)
        .map(|_| call_api(&home, "POST", "/admin/session", &headers).cookie())
        .collect();
    let assert_first_is_ended = || {
        assert_refused(&status(&home, &sessions[0]), "ended");
        for cookie in &sessions[1..] {
            assert_eq!(status(&home, cookie).status, 200);
        }
    };
    assert_first_is_ended();
    // If the order were lost, the new process would end another session.
    home.restart();
    assert_first_is_ended();
}

#[test]
fn too_many_sign_ins_end_only_own_sessions() {
    let home = Home::started();
    let printed = home.run(["token", "--subject", "other"]).succeeds();
    let other = format!("Bearer {}", printed.stdout.trim());
    let [other, mine] = [other, home.bearer()].map(|bearer| {
        move |home: &Home| {
            let headers = [("Authorization", bearer.as_str())];
            call_api(home, "POST", "/admin/session", &headers).cookie()
        }
    });
    let other_session = other(&home);
    let sessions: Vec<_> = (0..70).map(|_| mine(&home)).collect();
    assert_eq!(status(&home, &other_session).status, 200);
    assert_refused(&status(&home, &sessions[0]), "ended");
    for cookie in &sessions[7..] {
        assert_eq!(status(&home, cookie).status, 200);
    }
}

//! Signing out, and sessions that end for new ones.

use super::{assert_refused, call_api, status};
use crate::doctor::{as_nobody, home_of_nobody, set_mode};
use crate::support::{
    Connection, Home, Outcome, Response, TestSession, eventually, free_port, running_as_root,
};

#[test]
fn sign_out_ends_one_session_and_is_audited() {
    let home = Home::started();
    let (session, other) = (home.sign_in("admin:read"), home.sign_in("admin:read"));
    let answer = sign_out(&home, &session);
    assert_eq!((answer.status, answer.body.as_str()), (204, ""));
    let (name, cookie) = session.cookie.split_once('=').unwrap();
    assert_eq!(
        answer.header("set-cookie"),
        Some(&*format!(
            "{name}=; HttpOnly; SameSite=Strict; Path=/; Max-Age=0"
        ))
    );
    assert_refused(&status(&home, &session), "ended");
    assert_refused(&sign_out(&home, &session), "ended");
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
    for value in [cookie, &session.session, &session.ticket] {
        assert!(!log.contains(value));
    }
}

fn sign_out(home: &Home, session: &TestSession) -> Response {
    session.request(&home.admin_address(), "DELETE", "/admin/session")
}

#[test]
fn sign_out_fails_when_it_cannot_be_saved() {
    if !running_as_root("sign_out_fails_when_it_cannot_be_saved") {
        return;
    }
    // A daemon of root could write to any directory.
    let home = home_of_nobody();
    Outcome::run(&mut as_nobody(&home, &["start"])).succeeds();
    let session = home.sign_in("admin:read");
    set_mode(home.path(), 0o500);
    sign_out(&home, &session).assert_problem(500, "state file");
    assert_refused(&status(&home, &session), "ended");
    // Nor does a restart succeed, whose new process would accept the session.
    Outcome::run(&mut as_nobody(&home, &["restart"]))
        .exits(1)
        .stderr_contains(&["state file"]);
    // Signing in does not depend on the disk.
    let later = home.sign_in("admin:read");
    assert_eq!(status(&home, &later).status, 200);
    set_mode(home.path(), 0o700);
    Outcome::run(&mut as_nobody(&home, &["restart"])).succeeds();
    assert_refused(&status(&home, &session), "ended");
    assert_eq!(status(&home, &later.with_current_port(&home)).status, 200);
    assert!(
        home.log()
            .contains("action=\"sign_out\" outcome=\"failed\"")
    );
}

fn follow(home: &Home, session: &TestSession) -> (u16, Connection) {
    let mut stream = Connection::open(&home.admin_address());
    let path = format!("/admin/logs/stream?lines=0&ticket={}", session.ticket);
    let headers = [("Cookie", session.cookie.as_str())];
    stream.send("GET", &path, &headers, "");
    (stream.read_head().status, stream)
}

#[test]
fn signed_out_session_stays_ended_after_restart_and_crash() {
    let home = Home::started();
    let [before, after, other] = [(); 3].map(|()| home.sign_in("admin:read admin:logs"));
    assert_eq!(sign_out(&home, &before).status, 204);
    home.restart();
    assert_refused(&status(&home, &before), "ended");
    assert_eq!(sign_out(&home, &after.with_current_port(&home)).status, 204);
    let assert_streams = || {
        for session in [&before, &after] {
            let session = session.with_current_port(&home);
            assert_refused(&status(&home, &session), "ended");
            assert_eq!(follow(&home, &session).0, 401);
        }
        let other = other.with_current_port(&home);
        assert_eq!(follow(&home, &other).0, 200);
        other
    };
    let other_now = assert_streams();
    assert_eq!(status(&home, &other_now).status, 200);
    let killed = home.daemon().unwrap();
    killed.kill().unwrap();
    assert!(killed.wait_for_exit(crate::support::DEADLINE));
    home.run(["start"]).succeeds();
    // Another program may have listened on the port meanwhile. Only the log is left.
    let other_now = assert_streams();
    assert_refused(&status(&home, &other_now), "ended");
    home.run(["restart", "--hard"]).succeeds();
    let other_now = assert_streams();
    assert_refused(&status(&home, &other_now), "ended");
}

#[test]
fn stop_and_new_admin_port_leave_only_the_log_stream() {
    let mut home = Home::new();
    home.unset("ADMIN_PORT");
    let set_port = || home.write_env(&format!("ADMIN_PORT={}\n", free_port()));
    set_port();
    home.run(["start"]).succeeds();
    let session = home.sign_in("admin:read admin:logs");
    home.run(["stop"]).succeeds();
    home.run(["start"]).succeeds();
    assert_refused(&status(&home, &session), "ended");
    assert_eq!(follow(&home, &session).0, 200);
    let session = home.sign_in("admin:read admin:logs");
    set_port();
    home.run(["restart"]).succeeds();
    let session = session.with_current_port(&home);
    assert_refused(&status(&home, &session), "ended");
    assert_eq!(follow(&home, &session).0, 200);
}

#[test]
fn sign_out_ends_log_stream_of_session() {
    let home = Home::started();
    let [session, other] = [(); 2].map(|()| home.sign_in("admin:logs"));
    let open = |session| {
        let (status, stream) = follow(&home, session);
        assert_eq!(status, 200);
        stream
    };
    let (mut stream, mut other_stream) = (open(&session), open(&other));
    assert_eq!(sign_out(&home, &session).status, 204);
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

/// A page that signs in again presents its session, so that only one is left.
#[test]
fn new_sign_in_ends_the_session_that_it_presents() {
    let home = Home::started();
    let old = home.sign_in("admin:read");
    let bearer = home.bearer();
    let origin = format!("http://{}", home.admin_address());
    let sign_in = |headers: &[(&str, &str)]| {
        let headers = [headers, &[("Authorization", &*bearer), ("Origin", &origin)]].concat();
        TestSession::from(&call_api(&home, "POST", "/admin/session", &headers))
    };
    let [cookie, value] = old.headers();
    for incomplete in [&[][..], &[cookie]] {
        sign_in(incomplete);
        assert_eq!(status(&home, &old).status, 200);
    }
    // Not a page of this API.
    let headers = [("Authorization", bearer.as_str()), value];
    let other_client = call_api(&home, "POST", "/admin/session", &headers);
    assert_eq!(other_client.status, 201);
    assert_eq!(status(&home, &old).status, 200);
    let new = sign_in(&[cookie, value]);
    assert_refused(&status(&home, &old), "ended");
    assert_eq!(status(&home, &new).status, 200);
    // A program that has stolen its values has replaced the cookie.
    let replaced = replaced_cookie(&new);
    let newest = sign_in(&[("Cookie", &replaced), new.headers()[1]]);
    assert_refused(&status(&home, &new), "ended");
    let without_cookie = sign_in(&newest.headers()[1..]);
    assert_refused(&status(&home, &newest), "ended");
    assert_eq!(status(&home, &without_cookie).status, 200);
}

fn replaced_cookie(session: &TestSession) -> String {
    let (name, _) = session.cookie.split_once('=').unwrap();
    format!("{name}=x")
}

/// A program that has stolen the values may have replaced the cookie.
#[test]
fn session_value_alone_signs_out_and_opens_nothing() {
    let home = Home::started();
    let origin = format!("http://{}", home.admin_address());
    let call = |method, path, headers: &[(&str, &str)]| call_api(&home, method, path, headers);
    let sign_out = |headers: &[(&str, &str)]| {
        let headers = [headers, &[("Origin", &*origin)]].concat();
        call("DELETE", "/admin/session", &headers)
    };
    for is_replaced in [true, false] {
        let session = home.sign_in("admin:read admin:logs admin:control");
        let replaced = replaced_cookie(&session);
        let all = [("Cookie", replaced.as_str()), session.headers()[1]];
        let alone = &all[usize::from(!is_replaced)..];
        let (status_code, mut stream) = follow(&home, &session);
        assert_eq!(status_code, 200);
        for path in ["/admin/status", "/admin/session", "/admin/sessions"] {
            assert_refused(&call("GET", path, alone), "cookie");
        }
        let with_origin = [alone, &[("Origin", &*origin)]].concat();
        assert_refused(&call("POST", "/admin/reload", &with_origin), "cookie");
        // Only a page of this API signs out.
        call("DELETE", "/admin/session", alone).assert_problem(403, "Origin");
        let elsewhere = [alone, &[("Origin", "http://127.0.0.1:9")]].concat();
        call("DELETE", "/admin/session", &elsewhere).assert_problem(403, "other origins");
        assert_refused(&sign_out(&session.headers()[..1]), "missing");
        assert_eq!(status(&home, &session).status, 200);

        let answer = sign_out(alone);
        assert_eq!(answer.status, 204, "{answer:#?}");
        assert!(answer.header("set-cookie").unwrap().contains("Max-Age=0"));
        assert_refused(&status(&home, &session), "ended");
        assert!(stream.read_to_end().contains("signed_out"));
        assert_eq!(follow(&home, &session).0, 401);
        assert_refused(&sign_out(alone), "ended");
    }
    // The browser has signed in again in another tab, which stays signed in.
    let [former, current] = [(); 2].map(|()| home.sign_in("admin:read"));
    let answer = sign_out(&[current.headers()[0], former.headers()[1]]);
    assert_eq!((answer.status, answer.header("set-cookie")), (204, None));
    assert_refused(&status(&home, &former), "ended");
    assert_eq!(status(&home, &current).status, 200);
}

/// Another program had the port, and may have all values. Nothing but the log stream accepts them,
/// until the user signs in again or out.
#[test]
fn new_sign_in_or_sign_out_ends_what_is_left_after_a_crash() {
    let mut home = Home::new();
    for name in ["PORT", "ADMIN_PORT"] {
        home.set(name, &free_port().to_string());
    }
    home.run(["start"]).succeeds();
    let sessions = [(); 4].map(|()| home.sign_in("admin:read admin:logs"));
    let current = || {
        let killed = home.daemon().unwrap();
        killed.kill().unwrap();
        assert!(killed.wait_for_exit(crate::support::DEADLINE));
        home.run(["start"]).succeeds();
        let bearer = home.bearer();
        (bearer, format!("http://{}", home.admin_address()))
    };
    current();
    // Once more: it is not forgotten.
    let (bearer, origin) = current();
    let sign_in = |headers: &[(&str, &str)]| {
        let headers = [headers, &[("Authorization", &*bearer), ("Origin", &origin)]].concat();
        call_api(&home, "POST", "/admin/session", &headers)
    };
    let [by_both, by_cookie, by_value, signed_out] = &sessions;
    for session in &sessions {
        assert_eq!(follow(&home, session).0, 200);
    }
    let [cookie, value] = by_both.headers();
    assert_eq!(sign_in(&[cookie, value]).status, 201);
    // In another tab.
    assert_eq!(sign_in(&by_cookie.headers()[..1]).status, 201);
    // The other program has replaced the cookie.
    assert_eq!(sign_in(&by_value.headers()[1..]).status, 201);
    let [cookie, value] = signed_out.headers();
    assert_refused(&status(&home, signed_out), "ended");
    let sign_out = |header| {
        let headers = [header, ("Origin", &*origin)];
        call_api(&home, "DELETE", "/admin/session", &headers).status
    };
    assert_eq!(sign_out(cookie), 401);
    assert_eq!(follow(&home, signed_out).0, 200);
    assert_eq!(sign_out(value), 204);
    for session in &sessions {
        assert_eq!(follow(&home, session).0, 401);
    }
}

#[test]
fn sixty_fifth_session_ends_the_first() {
    let home = Home::started();
    let bearer = home.bearer();
    let headers = [("Authorization", bearer.as_str())];
    let sign_in = || TestSession::from(&call_api(&home, "POST", "/admin/session", &headers));
    let sessions: Vec<_> = (0..65).map(|_| sign_in()).collect();
    assert_refused(&status(&home, &sessions[0]), "ended");
    // Used most recently now.
    for session in [&sessions[2..], &sessions[1..2]].concat() {
        assert_eq!(status(&home, &session).status, 200);
    }
    // The new process knows the order.
    home.run(["restart"]).succeeds();
    sign_in();
    assert_refused(&status(&home, &sessions[2]), "ended");
    for session in [&sessions[1..2], &sessions[3..]].concat() {
        assert_eq!(status(&home, &session).status, 200);
    }
}

/// Tokens of one user have the same subject by default.
#[test]
fn token_with_fewer_scopes_ends_no_session_and_no_address() {
    let home = Home::started();
    let control = home.sign_in("admin:read admin:control");
    let one_time = home.call_admin("POST", "/admin/session/token").json();
    let read = home.token("admin:read");
    for path in ["/admin/session", "/admin/session/token"] {
        for _ in 0..70 {
            assert_eq!(home.call_admin_as(&read, "POST", path).status, 201);
        }
    }
    assert_eq!(status(&home, &control).status, 200);
    let one_time = one_time["token"].as_str().unwrap();
    let signed_in = home.call_admin_as(one_time, "POST", "/admin/session");
    assert_eq!(signed_in.status, 201);
}

#[test]
fn too_many_sign_ins_end_only_own_sessions() {
    let home = Home::started();
    let printed = home.run(["token", "--subject", "other"]).succeeds();
    let other = format!("Bearer {}", printed.stdout.trim());
    let [other, mine] = [other, home.bearer()].map(|bearer| {
        move |home: &Home| {
            let headers = [("Authorization", bearer.as_str())];
            TestSession::from(&call_api(home, "POST", "/admin/session", &headers))
        }
    });
    let other_session = other(&home);
    let sessions: Vec<_> = (0..70).map(|_| mine(&home)).collect();
    assert_eq!(status(&home, &other_session).status, 200);
    assert_refused(&status(&home, &sessions[0]), "ended");
    for session in &sessions[7..] {
        assert_eq!(status(&home, session).status, 200);
    }
}

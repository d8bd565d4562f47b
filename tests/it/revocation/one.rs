//! Revoking one token.

use std::fs;
use std::process::Stdio;
use std::thread;

use serde_json::json;

use super::{
    ALL, assert_accepted, assert_continues, assert_ended, assert_revoked, call, file,
    follow_with_session, follow_with_token, kill_and_start, revoke, revoke_token, session_status,
    sign_in,
};
use crate::support::{
    Connection, Home, InstalledProgram, Outcome, eventually, file_mode, free_port, jwt,
    preload_library,
};

#[test]
fn revoked_token_stays_revoked() {
    let home = Home::started();
    let [by_text, by_id, other] = [(); 3].map(|()| home.token(ALL));
    let sessions = [&by_text, &by_id, &other].map(|token| sign_in(&home, token));
    revoke_token(&home, &by_text);
    let id = jwt::claims_of(&by_id)["jti"].clone();
    let answer = revoke(&home, &json!({ "jti": id }));
    assert_eq!(answer.json()["sessions_ended"], 1);
    assert_eq!(answer.json()["signing_key"], "unchanged");
    assert_eq!(file_mode(&file(&home)), 0o600);
    let assert_ended = || {
        assert_revoked(&home, &by_text);
        assert_revoked(&home, &by_id);
        assert_accepted(&home, &other);
        // A revoked token opens no session either.
        let answer = home.call_admin_as(&by_id, "POST", "/admin/session");
        answer.assert_problem(401, "revoked");
        assert_eq!(
            sessions.each_ref().map(|it| session_status(&home, it))[..2],
            [401, 401]
        );
    };
    assert_ended();
    assert_eq!(session_status(&home, &sessions[2]), 200);
    home.restart();
    assert_ended();
    assert_eq!(session_status(&home, &sessions[2]), 200);
    kill_and_start(&home);
    assert_ended();
    home.run(["restart", "--hard"]).succeeds();
    assert_ended();
    let text = fs::read_to_string(file(&home)).unwrap();
    assert!(!text.contains(&by_text), "the file contains the token");
}

#[test]
fn streams_of_revoked_token_end() {
    let home = Home::started();
    let [token, other] = [(); 2].map(|()| home.token(ALL));
    let [session, other_session] = [&token, &other].map(|token| sign_in(&home, token));
    let ending = [
        (follow_with_token(&home, &token), "token_expired"),
        (follow_with_session(&home, &session), "signed_out"),
    ];
    let continuing = [
        follow_with_token(&home, &other),
        follow_with_session(&home, &other_session),
    ];
    revoke_token(&home, &token);
    for (stream, reason) in ending {
        assert_ended(stream, reason);
    }
    for stream in continuing {
        assert_continues(&home, stream);
    }
}

#[test]
fn one_time_token_ends_with_the_token_that_made_it() {
    let home = Home::started();
    let token = home.token(ALL);
    let made = home.call_admin_as(&token, "POST", "/admin/session/token");
    let one_time = made.json()["token"].as_str().unwrap().to_owned();
    let inspect = || home.call_admin_as(&one_time, "GET", "/admin/session/token");
    assert_eq!(inspect().status, 200);
    revoke_token(&home, &token);
    assert_eq!(inspect().status, 401);
    let answer = home.call_admin_as(&one_time, "POST", "/admin/session");
    assert_eq!(answer.status, 401);
}

#[test]
fn command_revokes_with_and_without_daemon() {
    let home = Home::started();
    let [first, second, third] = [(); 3].map(|()| home.token(ALL));
    home.run(["token", "--revoke", &first])
        .succeeds()
        .stdout_contains(&["The token is revoked", "Sessions ended: 0"]);
    assert_revoked(&home, &first);
    home.run(["stop"]).succeeds();
    home.run(["token", "--revoke", &second])
        .succeeds()
        .stdout_contains(&["The token is revoked", "No daemon is running"]);
    // `-` keeps the token out of the list of processes.
    let input = home.path().join("leaked-token.txt");
    fs::write(&input, format!("{third}\n")).unwrap();
    let mut command = home.fullon(["--json", "token", "--revoke", "-"]);
    let outcome = Outcome::run(command.stdin(Stdio::from(fs::File::open(input).unwrap())));
    assert_eq!(outcome.succeeds().json()["signing_key"], "unchanged");
    home.run(["start"]).succeeds();
    for token in [&first, &second, &third] {
        assert_revoked(&home, token);
    }
    // A part of a token must not be taken for an id.
    let part = third.rsplit_once('.').unwrap().0;
    home.run(["token", "--revoke", part])
        .exits(1)
        .stderr_contains(&["malformed", "complete"]);
    home.run(["token", "--revoke", " an id "])
        .exits(1)
        .stderr_contains(&["visible ASCII"]);
    // Other programs may sign with ids of any form.
    for id in ["a.b.c", "eyJ-id"] {
        home.run(["token", "--revoke", id]).succeeds();
    }
    for (request, text) in [
        (json!({}), "exactly one"),
        (json!({ "all": false }), "exactly one"),
        (json!({ "jti": "a", "all": true }), "exactly one"),
        (json!({ "jti": "" }), "jti"),
        (json!({ "jti": "a".repeat(2000) }), "jti"),
        (json!({ "token": "a.b.c" }), "token"),
    ] {
        revoke(&home, &request).assert_problem(400, text);
    }
}

/// A holder of `admin:logs` could read it there.
#[test]
fn token_that_is_given_as_id_is_refused_and_not_logged() {
    let home = Home::started();
    let token = home.token(ALL);
    let signature = token.rsplit('.').next().unwrap();
    for body in [
        json!({ "jti": token }),
        json!({ "jti": format!("Bearer {token}") }),
        json!({ "token": format!("{token}.x") }),
        json!({ "token": token, "jti": token }),
        json!({ "all": token }),
        json!({ (token.as_str()): 1 }),
        json!(token),
        json!([token]),
    ] {
        let answer = revoke(&home, &body);
        assert_eq!(answer.status, 400, "{body}: {answer:#?}");
        assert!(!answer.body.contains(signature), "{answer:#?}");
    }
    revoke(&home, &json!({ "jti": token })).assert_problem(400, "give the whole token as `token`");
    assert_accepted(&home, &token);
    let audit = home.run(["--json", "audit"]).succeeds();
    assert!(audit.stdout.contains("revoke_tokens"));
    for text in [home.log(), audit.stdout] {
        assert!(!text.contains(signature), "{text}");
    }
}

/// Starts a restart whose new process waits, with everything that the old one passed to it, until
/// the file `waiting` is removed. Returns it with the thread of the command.
pub fn hold_restart(home: &Home, program: &InstalledProgram) -> thread::JoinHandle<Outcome> {
    let waiting = home.path().join("waiting");
    program.replace(format!(
        "#!/bin/sh\nexport LD_PRELOAD={} PAUSE_FILE={} PAUSE_AT={}\nexec {} \"$@\"\n",
        preload_library(home, "pause_open").display(),
        home.log_file().display(),
        waiting.display(),
        env!("CARGO_BIN_EXE_fullon")
    ));
    let mut command = home.fullon(["restart"]);
    let restart = thread::spawn(move || Outcome::run(&mut command));
    eventually("the new process has received the handoff", || {
        waiting.exists()
    });
    restart
}

#[test]
fn both_processes_of_held_restart_refuse() {
    let home = Home::new();
    let program = InstalledProgram::install_in(&home);
    program.start(&home);
    let old = home.daemon().unwrap().pid();
    let [by_api, by_command, other] = [(); 3].map(|()| home.token(ALL));
    // The old process answers on it once more after the restart.
    let mut kept: Vec<_> = (0..3).map(|_| kept_connection(&home, &other)).collect();
    let restart = hold_restart(&home, &program);
    revoke_token(&home, &by_api);
    home.run(["token", "--revoke", &by_command]).succeeds();
    let all = revoke(&home, &json!({ "all": true }));
    all.assert_problem(409, "send the request again");
    let assert_refused = || {
        assert_revoked(&home, &by_api);
        assert_revoked(&home, &by_command);
        assert_accepted(&home, &other);
    };
    assert_refused();
    fs::remove_file(home.path().join("waiting")).unwrap();
    restart.join().unwrap().succeeds();
    assert_ne!(home.daemon().unwrap().pid(), old);
    assert_refused();
    for (token, status) in [(&by_api, 401), (&by_command, 401), (&other, 200)] {
        let mut connection = kept.remove(0);
        assert_eq!(call_on(&mut connection, token).status, status);
    }
}

pub fn kept_connection(home: &Home, token: &str) -> Connection {
    let mut connection = Connection::open(&home.admin_address());
    assert_eq!(call_on(&mut connection, token).status, 200);
    connection
}

pub fn call_on(connection: &mut Connection, token: &str) -> crate::support::Response {
    let bearer = format!("Bearer {token}");
    connection.send("GET", "/admin/status", &[("Authorization", &bearer)], "");
    connection.read_response("GET")
}

/// A client with a kept connection gets one more answer from a process that was replaced.
#[test]
fn replaced_process_refuses_ended_tokens_and_sessions() {
    let mut home = Home::new();
    home.set("ADMIN_PORT", &free_port().to_string());
    home.run(["start"]).succeeds();
    let old = home.state().pid;
    let [revoked, other] = [(); 2].map(|()| home.token(ALL));
    let [session, revoked_session, other_session] =
        [&other, &revoked, &other].map(|token| sign_in(&home, token));
    let mut kept: Vec<_> = (0..5).map(|_| kept_connection(&home, &other)).collect();
    home.restart();
    revoke_token(&home, &revoked);
    let ended = session.request(&home.admin_address(), "DELETE", "/admin/session");
    assert_eq!(ended.status, 204);
    for (headers, status) in [
        (session.headers(), 401),
        (revoked_session.headers(), 401),
        (other_session.headers(), 200),
    ] {
        let mut connection = kept.remove(0);
        connection.send("GET", "/admin/status", &headers, "");
        let answer = connection.read_response("GET");
        assert_eq!(answer.status, status, "{answer:#?}");
        if status == 200 {
            assert_eq!(answer.json()["pid"], old);
        }
    }
    assert_eq!(call_on(&mut kept.remove(0), &revoked).status, 401);
    // It accepts no revocation: the streams are those of the new process.
    let bearer = format!("Bearer {other}");
    let body = json!({ "token": other }).to_string();
    let mut connection = kept.remove(0);
    let headers = [("Authorization", &*bearer)];
    connection.send("POST", "/admin/tokens/revoke", &headers, &body);
    assert_eq!(connection.read_response("POST").status, 409);
    assert_accepted(&home, &other);
}

/// Commands that know of no daemon change the file, while the daemon does so, too.
#[test]
fn simultaneous_revocations_are_all_kept() {
    const EACH: usize = 12;
    let home = Home::started();
    let tokens: Vec<_> = (0..2 * EACH).map(|_| home.token(ALL)).collect();
    let (through_api, in_file) = tokens.split_at(EACH);
    thread::scope(|scope| {
        for token in through_api {
            scope.spawn(|| revoke_token(&home, token));
        }
        for token in in_file {
            scope.spawn(|| {
                let mut command = home.fullon(["token", "--revoke", token]);
                command.env("PID_FILE", home.path().join("other.pid"));
                Outcome::run(&mut command).succeeds();
            });
        }
    });
    for token in &tokens {
        assert_eq!(call(&home, token).status, 401);
    }
    kill_and_start(&home);
    for token in &tokens {
        assert_revoked(&home, token);
    }
}

/// Its `jti` is not that of a revoked token.
#[test]
fn damaged_token_is_refused() {
    let home = Home::started();
    let token = home.token(ALL);
    let jti = jwt::claims_of(&token)["jti"].as_str().unwrap().to_owned();
    let mut claims = jwt::claims_of(&token);
    claims["sub"] = json!("another");
    let (_, signature) = token.rsplit_once('.').unwrap();
    let changed = jwt::sign("another key", jwt::HEADER, claims.to_string());
    let (signed, _) = changed.rsplit_once('.').unwrap();
    for damaged in [
        changed.clone(),
        format!("{signed}.{signature}"),
        format!("{signed}."),
        token[..token.len() - 2].to_owned(),
    ] {
        let answer = revoke(&home, &json!({ "token": damaged }));
        answer.assert_problem(400, "has signed the token");
        home.run(["token", "--revoke", &damaged])
            .exits(1)
            .stderr_contains(&["nothing was revoked", "has signed the token"]);
    }
    home.run(["stop"]).succeeds();
    home.run(["token", "--revoke", &changed])
        .exits(1)
        .stderr_contains(&["nothing was revoked", "has signed the token"]);
    assert!(!file(&home).exists());
    let audit = home.run(["--json", "audit"]).succeeds();
    assert!(!audit.stdout.contains(&jti), "{}", audit.stdout);
    home.run(["start"]).succeeds();
    assert_accepted(&home, &token);
    // The id is enough.
    home.run(["token", "--revoke", &jti]).succeeds();
    assert_revoked(&home, &token);
}

#[test]
fn revocations_are_audited() {
    let home = Home::started();
    let [first, second] = [(); 2].map(|()| home.token(ALL));
    let id = |token: &str| format!("jti {}", jwt::claims_of(token)["jti"].as_str().unwrap());
    revoke_token(&home, &first);
    home.run(["stop"]).succeeds();
    home.run(["token", "--revoke", &second]).succeeds();
    home.run(["token", "--revoke-all"]).succeeds();
    let outcome = home.run(["--json", "audit"]).succeeds();
    for revoked in [&id(&first), &id(&second), "all"] {
        let name = format!(r#""revoked":"{revoked}""#);
        let mut lines = outcome.stdout.lines();
        let line = lines.find(|line| line.contains(&name));
        let line = line.unwrap_or_else(|| panic!("no {name} in {outcome:#?}"));
        for part in [r#""revoke_tokens""#, r#""accepted""#, r#""subject""#] {
            assert!(line.contains(part), "{line}");
        }
    }
    home.run(["audit", "--verify"]).succeeds();
    home.run(["start"]).succeeds();
    home.run(["audit", "--verify"]).succeeds();
}

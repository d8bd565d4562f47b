//! The list of sessions, and ending one.

use serde_json::json;

use super::{
    ALL, assert_continues, assert_ended, follow_with_session, kill_and_start, session_status,
};
use crate::support::{Home, TestSession};

fn session_id(home: &Home, session: &TestSession) -> String {
    let own = session.request(&home.admin_address(), "GET", "/admin/session");
    own.json()["id"].as_str().unwrap().to_owned()
}

#[test]
fn sessions_are_listed_and_ended() {
    let home = Home::started();
    home.run(["sessions"])
        .succeeds()
        .stdout_contains(&["Nobody is signed in"]);
    let [ended, other] = [(); 2].map(|()| home.sign_in(ALL));
    let [ended_id, other_id] = [&ended, &other].map(|it| session_id(&home, it));
    let list = home.call_admin("GET", "/admin/sessions").json();
    let list = list.as_array().unwrap();
    assert_eq!(list.len(), 2);
    assert_eq!(list[0]["id"], ended_id);
    assert_eq!(list[0]["scopes"], json!(ALL.split(' ').collect::<Vec<_>>()));
    assert_eq!(list[0]["log_only"], false);
    let text = home.run(["sessions"]).succeeds().stdout;
    assert!(
        text.contains(&ended_id) && text.contains(&other_id),
        "{text}"
    );
    for secret in [&ended.session, &ended.ticket, &ended.cookie] {
        let value = secret.rsplit('=').next().unwrap();
        assert!(!format!("{list:?}{text}").contains(value));
    }

    let streams = [&ended, &other].map(|session| follow_with_session(&home, session));
    home.run(["sessions", "--end", &ended_id])
        .succeeds()
        .stdout_contains(&["ended"]);
    let [ended_stream, other_stream] = streams;
    assert_ended(ended_stream, "signed_out");
    assert_continues(&home, other_stream);
    assert_eq!(session_status(&home, &ended), 401);
    assert_eq!(session_status(&home, &other), 200);
    for id in [&*ended_id, "no-id", "../stop", ""] {
        home.run(["sessions", "--end", id])
            .exits(1)
            .stderr_contains(&["no session with this id"]);
    }
    assert!(
        home.log()
            .contains("action=\"end_session\" outcome=\"accepted\"")
    );
    let outcome = home.run(["--json", "sessions"]).succeeds();
    assert_eq!(outcome.json().as_array().unwrap().len(), 1);
    home.restart();
    assert_eq!(session_status(&home, &ended), 401);
    assert_eq!(session_status(&home, &other), 200);
    kill_and_start(&home);
    home.run(["sessions"])
        .succeeds()
        .stdout_contains(&[&other_id, "log only"]);
    home.run(["stop"]).succeeds();
    home.run(["sessions"])
        .exits(1)
        .stderr_contains(&["not running", "fullon start"]);
}

#[test]
fn session_ends_others_only_with_control() {
    let home = Home::started();
    let [reader, operator] = ["admin:logs", ALL].map(|scope| home.sign_in(scope));
    let id = session_id(&home, &home.sign_in(ALL));
    let path = format!("/admin/sessions/{id}");
    let host = home.admin_address();
    assert_eq!(reader.request(&host, "GET", "/admin/sessions").status, 200);
    reader
        .request(&host, "DELETE", &path)
        .assert_problem(403, "admin:control");
    assert_eq!(operator.request(&host, "DELETE", &path).status, 204);
    operator
        .request(&host, "DELETE", &path)
        .assert_problem(404, "no session");
}

//! Requests whose body arrives after their token was revoked.

use serde_json::json;

use super::{ALL, assert_accepted, revoke_token, sign_in};
use crate::support::{Connection, Home, eventually};

const BODIES: [(&str, &str, &str); 5] = [
    ("PUT", "/admin/log-level", r#"{"level":"ERROR"}"#),
    ("POST", "/admin/tokens/revoke", r#"{"jti":"another"}"#),
    ("POST", "/admin/tokens/revoke", r#"{"all":true}"#),
    ("POST", "/admin/restart", r#"{"timeout_seconds":60}"#),
    ("POST", "/admin/stop", r#"{"timeout_seconds":60}"#),
];

/// A request without its body.
fn begin(home: &Home, headers: &str, (method, path, body): (&str, &str, &str)) -> Connection {
    let address = home.admin_address();
    let length = body.len();
    let mut connection = Connection::open(&address);
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nOrigin: http://{address}\r\n{headers}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    connection.send_bytes(head.as_bytes());
    connection
}

fn await_in_flight(home: &Home, count: usize) {
    eventually("the requests are in flight", || {
        home.call_admin("GET", "/admin/status").json()["http"]["in_flight"] == count + 1
    });
}

#[test]
fn change_is_refused_if_its_token_is_revoked_before_its_body_arrives() {
    let home = Home::started();
    let pid = home.daemon().unwrap().pid();
    let [stolen, own] = [(); 2].map(|()| home.token(ALL));
    let session = sign_in(&home, &home.token(ALL));
    let bearer = format!("Authorization: Bearer {stolen}");
    let of_session = session
        .headers()
        .map(|(name, value)| format!("{name}: {value}"));
    let all = [bearer, of_session.join("\r\n")]
        .map(|headers| BODIES.map(|request| (request.2, begin(&home, &headers, request))));
    await_in_flight(&home, 2 * BODIES.len());
    revoke_token(&home, &stolen);
    let ended = session.request(&home.admin_address(), "DELETE", "/admin/session");
    assert_eq!(ended.status, 204, "{ended:#?}");
    for (body, mut connection) in all.into_iter().flatten() {
        connection.send_bytes(body.as_bytes());
        let answer = connection.read_response("POST");
        assert_eq!(answer.status, 401, "{body}: {answer:#?}");
    }
    assert_accepted(&home, &own);
    assert_eq!(home.daemon().unwrap().pid(), pid);
    let level = home.call_admin("GET", "/admin/log-level").json();
    assert_eq!(level["level"], level["configured_level"]);
    assert!(!home.log().contains("revoked=\"jti another\""));
}

#[test]
fn change_is_refused_if_all_tokens_are_revoked_before_its_body_arrives() {
    let home = Home::started();
    let stolen = home.token(ALL);
    let bearer = format!("Authorization: Bearer {stolen}");
    let mut stop = begin(&home, &bearer, ("POST", "/admin/stop", "{}"));
    await_in_flight(&home, 1);
    let answer = super::revoke(&home, &json!({ "all": true }));
    assert_eq!(answer.status, 200, "{answer:#?}");
    stop.send_bytes(b"{}");
    assert_eq!(stop.read_response("POST").status, 401);
    home.run(["status"]).succeeds();
}

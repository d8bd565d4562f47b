//! Every requested change is one audit event, for every caller and every outcome.

use serde_json::Value;

use crate::support::{Connection, Home, Response, TestSession, eventually, jwt, request};

fn start_with_json_log() -> Home {
    let mut home = Home::new();
    home.set("LOG_FORMAT", "json");
    home.run(["start"]).succeeds();
    home
}

/// Waits for this number of audit events, and fails if there are more.
fn audit_events(home: &Home, events: usize) -> Vec<Value> {
    let read = || -> Vec<Value> {
        let log = home.log();
        let lines = log
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        lines
            .filter(|event: &Value| event["target"] == "audit")
            .collect()
    };
    eventually("all events are logged", || read().len() >= events);
    let trail = read();
    assert_eq!(trail.len(), events, "{trail:#?}");
    trail
}

fn field<'a>(event: &'a Value, name: &str) -> &'a str {
    event[name].as_str().unwrap_or_default()
}

fn actions_and_outcomes(trail: &[Value]) -> Vec<(&str, &str)> {
    trail
        .iter()
        .map(|event| (field(event, "action"), field(event, "outcome")))
        .collect()
}

/// Sends the request byte by byte, with `rest` after the `Authorization` header.
fn send_restart(host: &str, bearer: &str, rest: &str) -> Connection {
    let mut connection = Connection::open(host);
    let text = format!(
        "POST /admin/restart HTTP/1.1\r\nHost: {host}\r\nAuthorization: {bearer}\r\n{rest}"
    );
    connection.send_bytes(text.as_bytes());
    connection
}

#[test]
fn refused_change_is_one_event_with_subject_and_reason() {
    let home = start_with_json_log();
    let host = home.admin_address();
    let (reader, all) = (
        format!("Bearer {}", home.token("admin:read")),
        home.bearer(),
    );
    let reader = ("Authorization", reader.as_str());
    let bearer = ("Authorization", all.as_str());
    let post =
        |path, headers: &[(&str, &str)], body: &str| request(&host, "POST", path, headers, body);
    let invalid_token = ("Authorization", "Bearer x");
    let foreign_origin = ("Origin", "http://evil.example");
    let foreign_host = ("Host", "evil.example");
    let negative = r#"{"timeout_seconds":-1}"#;
    let as_text = "Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}";
    let cases: Vec<(&str, u16, &str, Response)> = vec![
        ("stop", 401, "Authorization", post("/admin/stop", &[], "")),
        (
            "stop",
            401,
            "malformed",
            post("/admin/stop", &[invalid_token], ""),
        ),
        (
            "restart",
            403,
            "admin:control",
            post("/admin/restart", &[reader], ""),
        ),
        (
            "reload",
            403,
            "other origins",
            post("/admin/reload", &[bearer, foreign_origin], ""),
        ),
        (
            "reload",
            403,
            "Host",
            post("/admin/reload", &[bearer, foreign_host], ""),
        ),
        (
            "stop",
            400,
            "timeout_seconds",
            post("/admin/stop", &[bearer], negative),
        ),
        (
            "stop",
            400,
            "not a JSON object",
            post("/admin/stop", &[bearer], "[]"),
        ),
        (
            "sign_in",
            401,
            "Authorization",
            post("/admin/session", &[], ""),
        ),
        (
            "sign_out",
            401,
            "session",
            request(&host, "DELETE", "/admin/session", &[bearer], ""),
        ),
        (
            "restart",
            415,
            "application/json",
            send_restart(&host, &all, as_text).read_response("POST"),
        ),
    ];
    // These are no changes: no such operation exists.
    assert_eq!(post("/admin/status", &[bearer], "").status, 405);
    assert_eq!(post("/admin/nothing", &[bearer], "").status, 404);
    let trail = audit_events(&home, cases.len());
    for (event, (action, status, reason, answer)) in trail.iter().zip(&cases) {
        assert_eq!(answer.status, *status, "{answer:#?}");
        assert_eq!(
            (field(event, "action"), field(event, "outcome")),
            (*action, "refused")
        );
        assert_eq!(event["status"], *status, "{event:#}");
        assert!(field(event, "reason").contains(reason), "{event:#}");
        assert!(field(event, "peer").starts_with("127.0.0.1:"), "{event:#}");
        let name = answer.header("x-request-id");
        assert_eq!(Some(field(event, "request_id")), name, "{event:#}");
        // The subject of a valid token is named.
        let has_token = matches!(status, 400 | 415) || *reason == "admin:control";
        assert_eq!(!field(event, "subject").is_empty(), has_token, "{event:#}");
    }
}

#[test]
fn accepted_change_is_one_event_with_subject_and_action() {
    let home = start_with_json_log();
    let host = home.admin_address();
    let token = home.run(["token", "--subject", "me"]).succeeds().stdout;
    let bearer = format!("Bearer {}", token.trim());
    let headers = [("Authorization", bearer.as_str())];
    let signed_in = request(&host, "POST", "/admin/session", &headers, "");
    let session = TestSession::from(&signed_in);
    for (method, path, status) in [
        ("POST", "/admin/reload", 200),
        ("DELETE", "/admin/session", 204),
    ] {
        assert_eq!(session.request(&host, method, path).status, status);
    }
    let trail = audit_events(&home, 3);
    assert_eq!(
        actions_and_outcomes(&trail),
        [
            ("sign_in", "accepted"),
            ("reload", "accepted"),
            ("sign_out", "accepted")
        ]
    );
    assert!(trail.iter().all(|event| field(event, "subject") == "me"));
    // Each id has a name of its own: the one of the token revokes, the other one does not.
    let ids = |event| ["token_id", "session_id"].map(|name| field(event, name));
    let [token_id, session_id] = ids(&trail[0]);
    assert!(!session_id.is_empty() && session_id != token_id);
    assert!(
        trail
            .iter()
            .all(|event| ids(event) == [token_id, session_id]),
        "{trail:#?}"
    );
    assert_eq!(field(&trail[2], "ended_session_id"), session_id);
}

/// The documents say so: the `token_id` of any record revokes.
#[test]
fn token_id_of_a_change_by_a_session_ends_that_session() {
    let home = start_with_json_log();
    let [session, other] = [(); 2].map(|()| home.sign_in("admin:read admin:logs admin:control"));
    let host = home.admin_address();
    assert_eq!(session.request(&host, "POST", "/admin/reload").status, 200);
    let trail = audit_events(&home, 3);
    let other_id = field(&trail[1], "session_id");
    let path = format!("/admin/sessions/{other_id}");
    assert_eq!(session.request(&host, "DELETE", &path).status, 204);
    assert_eq!(other.request(&host, "GET", "/admin/session").status, 401);
    let ended = &audit_events(&home, 4)[3];
    assert_eq!(field(ended, "ended_session_id"), other_id);
    assert_eq!(field(ended, "session_id"), field(&trail[2], "session_id"));
    let revoked = home.run(["token", "--revoke", field(&trail[2], "token_id")]);
    revoked.succeeds().stdout_contains(&["Sessions ended: 1"]);
    let status = session.request(&host, "GET", "/admin/session").status;
    assert_eq!(status, 401);
}

/// Somebody pastes a token where it does not belong.
#[test]
fn token_in_a_path_or_a_request_id_reaches_no_file() {
    let home = start_with_json_log();
    let token = home.run(["token"]).succeeds().stdout;
    let token = token.trim();
    let bearer = home.bearer();
    let encoded = token.replace('.', "%2E");
    let letters_encoded = token.replace('e', "%65");
    // Other programs write spaces into the JSON.
    let spaced = jwt::sign(
        home.key().expose(),
        r#"{ "alg": "HS256" }"#,
        format!(" {}", jwt::claims("admin:read")),
    );
    let requests = [
        (home.admin_address(), format!("/admin/sessions/{token}")),
        (home.admin_address(), format!("/admin/sessions/{encoded}")),
        (home.admin_address(), format!("/a/{letters_encoded}")),
        (home.admin_address(), format!("/admin/sessions/x{spaced}")),
        (home.admin_address(), format!("/{token}/x")),
        (home.public_address(), format!("/Bearer%20{token}")),
    ];
    for (host, path) in &requests {
        let headers = [("Authorization", &*bearer), ("X-Request-Id", token)];
        assert_eq!(request(host, "DELETE", path, &headers, "").status / 100, 4);
    }
    let part = token.split('.').nth(1).unwrap();
    eventually("all requests are logged", || {
        home.log().matches("/[token]").count() == requests.len()
    });
    let log = home.log();
    let trail = std::fs::read_to_string(home.path().join("fullon.log.audit")).unwrap();
    assert!(trail.contains("end_session"), "{trail}");
    for part in [part, "%65yJ", spaced.rsplit('.').next().unwrap()] {
        assert!(!log.contains(part) && !trail.contains(part), "{log}{trail}");
    }
    assert!(
        log.contains("\"/admin/sessions/[token]\"") && log.contains("/[token]/x"),
        "{log}"
    );
}

#[test]
fn aborted_request_is_audited_and_changes_nothing() {
    let home = start_with_json_log();
    let connection = send_restart(
        &home.admin_address(),
        &home.bearer(),
        "Content-Length: 9\r\n\r\n{",
    );
    eventually("the request is in flight", || {
        home.call_admin("GET", "/admin/status").json()["http"]["in_flight"] == 2
    });
    drop(connection);
    let trail = audit_events(&home, 1);
    assert_eq!(actions_and_outcomes(&trail), [("restart", "refused")]);
    assert_eq!(home.state().generation, 1);
}

#[test]
fn restart_and_stop_by_signal_are_audited() {
    let home = start_with_json_log();
    home.restart();
    home.daemon().unwrap().terminate().unwrap();
    eventually("the daemon exits", || home.daemon().is_none());
    let trail = audit_events(&home, 2);
    assert_eq!(
        actions_and_outcomes(&trail),
        [("restart", "accepted"), ("stop", "accepted")]
    );
    assert_eq!(field(&trail[1], "subject"), "SIGTERM");
}

/// Otherwise a few requests from anyone could rotate the audit trail away.
#[test]
fn long_request_is_logged_as_short_line() {
    let home = Home::started();
    let path = format!("/{}", "\u{80}".repeat(5000));
    let method = "M".repeat(5000);
    for (host, id) in [
        (home.public_address(), "long-one"),
        (home.admin_address(), "long-two"),
    ] {
        let headers = [("X-Request-Id", id)];
        request(&host, &method, &path, &headers, "");
        let mut line = None;
        eventually("the line is logged", || {
            let log = home.log();
            let found = log.lines().find(|line| line.contains(id));
            line = found.map(str::to_owned);
            line.is_some()
        });
        let line = line.unwrap();
        assert!(line.len() < 5000, "{}: {line}", line.len());
        assert!(
            line.contains("(10001 bytes)") && line.contains("(5000 bytes)"),
            "{line}"
        );
    }
    // A path within the limit is logged unchanged.
    let path = format!("/{}", "x".repeat(1000));
    request(&home.public_address(), "GET", &path, &[], "");
    eventually("the line is logged", || {
        home.log().contains(&format!("path=\"{path}\""))
    });
}

//! Stopping over the API.

use crate::support::{Connection, Home, eventually, request};

#[test]
fn stop_responds_before_shutdown_and_is_audited() {
    let home = Home::started();
    let daemon = home.daemon().unwrap();
    let token = home
        .run(["token", "--subject", "the operator"])
        .succeeds()
        .stdout;
    let authorization = format!("Bearer {}", token.trim());
    let mut connection = Connection::open(&home.admin_address());
    let headers = [("Authorization", authorization.as_str())];
    connection.send(
        "POST",
        "/admin/stop",
        &headers,
        r#"{"timeout_seconds":"soon"}"#,
    );
    connection
        .read_response("POST")
        .assert_problem(400, "timeout_seconds");
    connection.send("POST", "/admin/stop", &headers, r#"{"timeout_seconds":-1}"#);
    connection
        .read_response("POST")
        .assert_problem(400, "timeout_seconds");
    connection.send("POST", "/admin/stop", &headers, r#"{"timeout_seconds":5}"#);
    let answer = connection.read_response("POST");
    assert_eq!(answer.status, 202, "{answer:#?}");
    let accepted = answer.json();
    assert_eq!(
        (&accepted["phase"], &accepted["in_flight"]),
        (&"draining".into(), &0.into())
    );
    assert!(accepted["deadline"].as_str().unwrap().ends_with('Z'));
    assert!(daemon.wait_for_exit(crate::support::DEADLINE));
    assert!(!home.pid_file().exists());
    let log = home.log();
    let audit: Vec<_> = log
        .lines()
        .filter(|line| line.contains(" audit: action=\"stop\""))
        .collect();
    let [refused, _, audit] = audit[..] else {
        panic!("expected three events: {audit:#?}");
    };
    assert!(
        refused.contains("outcome=\"refused\"") && refused.contains("timeout_seconds"),
        "{refused}"
    );
    for part in [
        "outcome=\"accepted\"",
        "subject=\"the operator\"",
        "token_id=\"",
        "peer=127.0.0.1:",
    ] {
        assert!(audit.contains(part), "no {part} in {audit}");
    }
    assert!(!log.contains(token.trim()));
}

#[test]
fn refused_request_is_audited() {
    let home = Home::started();
    let token = home.token("admin:read");
    home.call_admin_as(&token, "POST", "/admin/stop")
        .assert_problem(403, "admin:control");
    request(&home.admin_address(), "POST", "/admin/stop", &[], "")
        .assert_problem(401, "fullon token");
    eventually("both refusals are audited", || {
        home.log()
            .matches(" audit: action=\"stop\" outcome=\"refused\"")
            .count()
            == 2
    });
}

#[test]
fn null_stands_for_a_body_that_is_left_out() {
    let home = Home::started();
    let answer = home.call_admin_with("POST", "/admin/stop", "null");
    assert_eq!(answer.status, 202, "{answer:#?}");
    let home = Home::started();
    let answer = home.call_admin_with("PUT", "/admin/log-level", "null");
    assert_eq!(answer.status, 400, "{answer:#?}");
}

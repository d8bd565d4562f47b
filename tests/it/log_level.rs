//! Changing the log level of a running daemon.

use serde_json::{Value, json};

use crate::support::{Home, eventually, request};

const PATH: &str = "/admin/log-level";

fn set_level(home: &Home, body: &Value) -> Value {
    let answer = home.call_admin_with("PUT", PATH, &body.to_string());
    assert_eq!(answer.status, 200, "{answer:#?}");
    answer.json()
}

fn get_level(home: &Home) -> Value {
    let answer = home.call_admin("GET", PATH);
    assert_eq!(answer.status, 200, "{answer:#?}");
    answer.json()
}

/// Whether a health probe, an event at DEBUG, is logged.
fn is_probe_logged(home: &Home, name: &str) -> bool {
    let named = [("X-Request-Id", name)];
    assert_eq!(
        request(&home.public_address(), "GET", "/health", &named, "").status,
        200
    );
    // Once this line is in the file, so is everything logged before.
    let after = format!("{name}-after");
    home.log_request(&after);
    eventually("the request is logged", || home.log().contains(&after));
    home.log().contains(&format!("request_id=\"{name}\""))
}

#[test]
fn level_reverts_after_given_time() {
    let home = Home::started();
    assert_eq!(
        get_level(&home),
        json!({ "level": "info", "configured_level": "info" })
    );
    assert!(!is_probe_logged(&home, "before"));
    let current = set_level(
        &home,
        &json!({ "level": "DEBUG", "revert_after_seconds": 2 }),
    );
    assert_eq!(
        (&current["level"], &current["configured_level"]),
        (&json!("debug"), &json!("info"))
    );
    let seconds_left = current["revert_after_seconds"].as_f64().unwrap();
    assert!(seconds_left > 0.0 && seconds_left <= 2.0, "{current}");
    assert_eq!(
        home.call_admin("GET", "/admin/status").json()["log_level"],
        "debug"
    );
    assert!(is_probe_logged(&home, "meanwhile"));
    eventually("the level is the configured one again", || {
        get_level(&home)["level"] == "info"
    });
    assert!(!is_probe_logged(&home, "afterwards"));
    home.run(["stop"]).succeeds();
    let log = home.log();
    let event = log
        .lines()
        .find(|line| line.contains("action=\"log_level\""));
    let event = event.unwrap();
    for part in [
        " audit: ",
        "outcome=\"accepted\"",
        "level=\"debug\"",
        "timeout_ms=2000",
    ] {
        assert!(event.contains(part), "no {part} in {event}");
    }
    assert!(log.contains("log level reverted to LOG_LEVEL"));
}

#[test]
fn level_lasts_until_settings_change_or_restart() {
    let home = Home::started();
    set_level(&home, &json!({ "level": "debug" }));
    assert_eq!(home.call_admin("POST", "/admin/reload").status, 200);
    assert_eq!(get_level(&home)["level"], "debug");
    home.write_env("LOG_LEVEL=warn\n");
    assert_eq!(home.call_admin("POST", "/admin/reload").status, 200);
    assert_eq!(
        get_level(&home),
        json!({ "level": "warn", "configured_level": "warn" })
    );
    set_level(
        &home,
        &json!({ "level": "trace", "revert_after_seconds": 3600 }),
    );
    home.restart();
    assert_eq!(get_level(&home)["level"], "warn");
    // Equal to the configured level, so there is nothing to revert.
    let current = set_level(&home, &json!({ "level": "warn" }));
    assert_eq!(
        current,
        json!({ "level": "warn", "configured_level": "warn" })
    );
}

#[test]
fn audit_target_cannot_be_silenced() {
    let home = Home::started();
    for level in ["info,audit=off", "info, audit[x]=off", "debug,audit=info"] {
        let body = json!({ "level": level }).to_string();
        let answer = home.call_admin_with("PUT", PATH, &body);
        answer.assert_problem(400, "field `level`: cannot contain a directive for `audit`");
    }
    set_level(&home, &json!({ "level": "off" }));
    assert_eq!(home.call_admin("POST", "/admin/reload").status, 200);
    home.run(["stop"]).succeeds();
    let log = home.log();
    let (_, after_off) = log
        .split_once("action=\"log_level\" outcome=\"accepted\"")
        .unwrap();
    let lines: Vec<_> = after_off.lines().skip(1).collect();
    assert!(
        lines.iter().all(|line| line.contains(" audit: ")) && lines.len() >= 2,
        "{lines:#?}"
    );
}

#[test]
fn invalid_request_names_the_field() {
    let home = Home::started();
    for (body, status, text) in [
        ("", 400, "body"),
        ("{}", 400, "level"),
        (
            "{\"level\":\"loud\"}",
            400,
            "field `level`: `loud` is not a log level",
        ),
        ("{\"level\":\"info,fullon=loud\"}", 400, "`level`"),
        (
            "{\"level\":\"a\\u001bb\"}",
            400,
            "field `level`: the value is not a log level",
        ),
        ("{\"level\":7}", 400, "level"),
        (
            "{\"level\":\"debug\",\"revert_after_seconds\":0}",
            400,
            "`revert_after_seconds`",
        ),
        (
            "{\"level\":\"debug\",\"revert_after_seconds\":86401}",
            400,
            "`revert_after_seconds`",
        ),
        ("{\"level\":\"debug\",\"for\":3}", 400, "for"),
    ] {
        let answer = home.call_admin_with("PUT", PATH, body);
        answer.assert_problem(status, text);
    }
    assert_eq!(get_level(&home)["level"], "info");
    // It may be a secret, and the message is in the log.
    let long = "secret-".repeat(20);
    for (method, path, body) in [
        ("PUT", PATH.to_owned(), format!("{{\"level\":\"{long}\"}}")),
        ("GET", format!("{PATH}?{long}=1"), String::new()),
    ] {
        let answer = home.call_admin_with(method, &path, &body);
        assert_eq!(answer.status, 400, "{answer:?}");
        assert!(!answer.body.contains("secret-"), "{answer:?}");
    }
    let reader = home.token("admin:read");
    let bearer = format!("Bearer {reader}");
    let headers = [("Authorization", bearer.as_str())];
    let answer = request(
        &home.admin_address(),
        "PUT",
        PATH,
        &headers,
        "{\"level\":\"off\"}",
    );
    answer.assert_problem(403, "admin:control");
    assert_eq!(
        request(&home.admin_address(), "GET", PATH, &headers, "").status,
        200
    );
}

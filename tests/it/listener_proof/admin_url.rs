//! A daemon behind `--admin-url`, and the tokens that it gets.

use fullon_master_api::config::Secret;
use serde_json::json;

use super::{COMMANDS, false_status, squat};
use crate::support::{FakeApi, Home, jwt, proof, request, running_as_root};

/// A tunnel whose local end another user holds.
#[test]
fn admin_url_of_another_user_gets_nothing() {
    if !running_as_root("admin_url_of_another_user_gets_nothing") {
        return;
    }
    let mut home = Home::new();
    let fake = squat(&mut home);
    home.token("admin:read");
    for host in ["127.0.0.1", "localhost", "0.0.0.0", "[::ffff:127.0.0.1]"] {
        let url = format!(
            "http://{host}:{}",
            fake.address().rsplit_once(':').unwrap().1
        );
        for command in COMMANDS {
            let arguments = ["--admin-url", &url].into_iter();
            home.run(arguments.chain(command.iter().copied()));
        }
        home.run(["--admin-url", &url, "status"])
            .exits(4)
            .stdout_contains(&["no token was sent", "uid 12345"]);
    }
    assert_eq!(fake.connections(), 0, "{}", fake.received());
}

#[test]
fn admin_url_without_the_key_gets_no_token() {
    let home = Home::new();
    home.token("admin:read");
    let fake = FakeApi::start(&Secret::new("another-key".repeat(3)), &false_status(&home));
    for command in COMMANDS {
        let url = fake.url();
        let arguments = ["--admin-url", &url].into_iter();
        home.run(arguments.chain(command.iter().copied()));
    }
    home.run(["--admin-url", &fake.url(), "status"])
        .exits(4)
        .stdout_contains(&["does not have the signing key", "no token was sent"]);
    assert!(fake.connections() > 0);
    assert_eq!(fake.tokens(), Vec::<String>::new());
    assert!(fake.received().contains("POST /admin/proof"));
}

/// A relay sees the tokens. Each is valid only for what the user asked for.
#[test]
fn token_of_command_is_valid_for_one_request() {
    let home = Home::started();
    let address = home.admin_address();
    for (command, method, path, scope) in [
        (
            &["status", "--json"][..],
            "GET",
            "/admin/status",
            "admin:read",
        ),
        (&["logs", "--no-follow"], "GET", "/admin/logs", "admin:logs"),
        (&["reload"], "POST", "/admin/reload", "admin:control"),
        (
            &["console"],
            "POST",
            "/admin/session/token",
            "admin:read admin:logs admin:control",
        ),
        (&["restart"], "POST", "/admin/restart", "admin:control"),
        (&["stop"], "POST", "/admin/stop", "admin:control"),
    ] {
        let relay = FakeApi::relay_to(&address);
        let url = relay.url();
        let arguments = ["--admin-url", &url].into_iter();
        home.run(arguments.chain(command.iter().copied()))
            .succeeds();
        let tokens = relay.tokens();
        let token = tokens.first().unwrap();
        let claims = jwt::claims_of(token);
        assert_eq!(claims["req"], format!("{method} {path}"));
        assert_eq!(claims["scope"], scope);
        let lifetime = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
        assert_eq!(lifetime, 60);
        if command != ["stop"] {
            for (method, path) in [
                ("GET", "/admin/config"),
                ("POST", "/admin/session"),
                ("POST", "/admin/stop"),
                ("PUT", "/admin/log-level"),
            ] {
                home.call_admin_as(token, method, path)
                    .assert_problem(401, "the token is for another request");
            }
        }
    }
}

#[test]
fn proof_needs_the_key() {
    let home = Home::new();
    let key = home.key();
    home.run(["start"]).succeeds();
    let nonce = jwt::encode_part([7; 32]);
    let what = "GET /admin/status";
    let post = |nonce: &str, mac: &str| {
        let body = json!({ "nonce": nonce, "req": what, "mac": mac }).to_string();
        let headers = [("Content-Type", "application/json")];
        request(
            &home.admin_address(),
            "POST",
            "/admin/proof",
            &headers,
            &body,
        )
    };
    let answer = post(&nonce, &proof(key.expose(), "client", &nonce, what));
    assert_eq!(answer.status, 200);
    let expected = proof(key.expose(), "daemon", &nonce, what);
    assert_eq!(answer.json(), json!({ "mac": expected }));
    for mac in [
        proof("another key of thirty-two bytes.", "client", &nonce, what),
        proof(key.expose(), "client", &nonce, "POST /admin/stop"),
        expected,
        "?".into(),
        String::new(),
    ] {
        let refused = post(&nonce, &mac);
        refused.assert_problem(401, "signed with another key");
    }
    post("short", &proof(key.expose(), "client", "short", what)).assert_problem(400, "`nonce`");
    let wrong_method = request(&home.admin_address(), "GET", "/admin/proof", &[], "");
    assert_eq!(wrong_method.status, 405);
    assert_eq!(wrong_method.header("allow"), Some("POST"));
}

//! Exchanging a token for a session, and the limits of a session.

use fullon_master_api::auth::TokenSigner;
use serde_json::json;

use super::{assert_refused, call_api, status};
use crate::support::{Connection, Home, TestSession, eventually};

const SECRET: &str = "a secret of the tests, forty bytes long.";

#[test]
fn token_is_exchanged_for_session() {
    let home = Home::started();
    let token = home
        .run(["token", "--subject", "page", "--scope", "admin:read"])
        .succeeds()
        .stdout;
    let answer = home.call_admin_as(token.trim(), "POST", "/admin/session");
    assert_eq!(answer.status, 201, "{answer:#?}");
    let body = answer.json();
    assert_eq!(
        (&body["subject"], &body["scopes"]),
        (&json!("page"), &json!(["admin:read"]))
    );
    assert_eq!(answer.header("cache-control"), Some("no-store"));

    let cookie = answer.header("set-cookie").unwrap();
    let port = home.admin_address().rsplit(':').next().unwrap().to_owned();
    assert!(
        cookie.starts_with(&format!("fullon-session-{port}=")),
        "{cookie}"
    );
    let mut attributes: Vec<_> = cookie.split("; ").skip(1).collect();
    attributes.sort_unstable();
    let age: u64 = attributes[1]
        .strip_prefix("Max-Age=")
        .unwrap()
        .parse()
        .unwrap();
    assert!((3500..=3600).contains(&age), "{age}");
    attributes.remove(1);
    assert_eq!(attributes, ["HttpOnly", "Path=/", "SameSite=Strict"]);

    let session = TestSession::from(&answer);
    let own = session.request(&home.admin_address(), "GET", "/admin/session");
    let own = own.json();
    assert_eq!(own["id"], body["id"]);
    assert_eq!(own["expires_at"], body["expires_at"]);
    assert!(own["session"].is_null() && own["ticket"].is_null());
    let with_others = TestSession {
        cookie: format!("theme=dark; {}; other=1", session.cookie),
        ..session
    };
    assert_eq!(status(&home, &with_others).status, 200);
}

#[test]
fn log_stream_accepts_ticket_again_and_again() {
    let home = Home::started();
    let session = home.sign_in("admin:logs");
    let path = format!("/admin/logs/stream?ticket={}", session.ticket);
    for _ in 0..2 {
        let mut stream = Connection::open(&home.admin_address());
        stream.send("GET", &path, &[("Cookie", &session.cookie)], "");
        assert_eq!(stream.read_head().status, 200);
        eventually("a line arrives", || {
            stream.read_line().starts_with("data: ")
        });
    }
    home.run(["stop"]).succeeds();
    assert!(!home.log().contains(&session.ticket));
}

#[test]
fn session_of_instance_key_token_outlives_the_process() {
    let home = Home::started();
    let key = home.state().instance_key.to_secret();
    let token = TokenSigner::with_instance_key(&key)
        .sign(
            "me",
            "admin:read".parse().unwrap(),
            std::time::Duration::from_mins(1),
        )
        .unwrap();
    let session = TestSession::from(&home.call_admin_as(&token, "POST", "/admin/session"));
    assert_eq!(status(&home, &session).status, 200);
    home.run(["restart"]).succeeds();
    // The port may change; then only the log stream would be left.
    assert_eq!(status(&home, &session).status, 200);
}

#[test]
fn session_has_scopes_of_its_token() {
    let home = Home::started();
    let session = home.sign_in("admin:logs");
    let call = |method, path| session.request(&home.admin_address(), method, path);
    assert_eq!(call("GET", "/admin/logs?lines=1").status, 200);
    call("GET", "/admin/status").assert_problem(403, "admin:read");
    call("POST", "/admin/stop").assert_problem(403, "admin:control");
    // A session cannot extend itself.
    for path in ["/admin/session", "/admin/session/token"] {
        assert_refused(&call("POST", path), "fullon token");
    }
    home.run(["status"]).succeeds();
}

#[test]
fn change_with_session_needs_own_origin() {
    let home = Home::started();
    let host = home.admin_address();
    let session = home.sign_in("admin:read admin:control");
    let origin = format!("http://{host}");
    let with = |method, path, headers: &[(&str, &str)]| {
        let headers: Vec<_> = session
            .headers()
            .into_iter()
            .chain(headers.iter().copied())
            .collect();
        call_api(&home, method, path, &headers)
    };
    for (method, path) in [("POST", "/admin/stop"), ("DELETE", "/admin/session")] {
        with(method, path, &[]).assert_problem(403, "Origin");
        with(method, path, &[("Origin", "http://127.0.0.1:9")])
            .assert_problem(403, "other origins");
        with(method, path, &[("Origin", "null")]).assert_problem(403, "other origins");
    }
    // A page on another port of this host loads it like an image: no `Origin`, but the cookie.
    for site in ["same-site", "cross-site"] {
        let site = ("Sec-Fetch-Site", site);
        with("GET", "/admin/status", &[site]).assert_problem(403, "other origins");
        // A user follows a link to here. There is nothing to see except our own pages.
        let link = [
            site,
            ("Sec-Fetch-Mode", "navigate"),
            ("Sec-Fetch-Dest", "document"),
        ];
        with("GET", "/admin/status", &link).assert_problem(403, "pages of this");
    }
    for headers in [
        &[("Sec-Fetch-Site", "same-origin")],
        &[("Sec-Fetch-Site", "none")],
        &[("Origin", &*origin)],
    ] {
        assert_eq!(with("GET", "/admin/status", headers).status, 200);
    }
    let answer = with("POST", "/admin/stop", &[("Origin", &origin)]);
    assert_eq!(answer.status, 202, "{answer:#?}");
}

/// Another program on this port has asked the browser for a password, which it now sends by itself.
#[test]
fn credentials_of_another_scheme_are_ignored_beside_a_session() {
    let home = Home::started();
    let origin = format!("http://{}", home.admin_address());
    let call = |method, path: &str, headers: &[&[(&str, &str)]]| {
        let headers = headers.concat();
        let mut connection = Connection::open(&home.admin_address());
        connection.send(method, path, &headers, "");
        connection.read_head().status
    };
    let session = home.sign_in("admin:read admin:logs admin:control");
    let values = &session.headers()[..];
    let cookie = &values[..1];
    let stream = format!("/admin/logs/stream?lines=0&ticket={}", session.ticket);
    let own = &[("Origin", origin.as_str())][..];
    let token = home.bearer();
    for (credentials, is_ignored) in [
        ("Basic dTpw", true),
        ("basic dTpw", true),
        ("Digest username=\"u\"", true),
        ("Bearer x", false),
        ("bearer x", false),
    ] {
        let added = &[("Authorization", credentials)][..];
        let expected = if is_ignored { 200 } else { 401 };
        let status = |headers: &[&[(&str, &str)]]| call("GET", "/admin/status", headers);
        assert_eq!(status(&[added, values]), expected, "{credentials}");
        assert_eq!(call("GET", "/admin/session", &[added, values]), expected);
        assert_eq!(call("GET", &stream, &[added, cookie]), expected);
        assert_eq!(status(&[added]), 401);
        assert_eq!(status(&[added, cookie]), 401);
        assert_eq!(status(&[added, &values[1..]]), 401);
        // A token that is beside them counts.
        let bearer = &[("Authorization", "Bearer x")][..];
        assert_eq!(status(&[added, bearer, values]), 401);
        let ended = home.sign_in("admin:read");
        let sign_out = call("DELETE", "/admin/session", &[added, &ended.headers(), own]);
        assert_eq!(sign_out, if is_ignored { 204 } else { 401 });
    }
    // A client with a token does not act as the user of its browser.
    let token = &[("Authorization", token.as_str())][..];
    assert_eq!(call("GET", "/admin/status", &[token, values]), 200);
    assert_eq!(call("DELETE", "/admin/session", &[token, values, own]), 401);
    assert_eq!(call("GET", "/admin/status", &[values]), 200);
}

/// Two tunnels to two daemons end on two ports of one host, and a browser keeps their cookies
/// together.
#[test]
fn cookie_name_has_port_of_host_header() {
    let home = Home::started();
    let bearer = home.bearer();
    let sign_in = |host: &str| {
        let headers = [("Authorization", bearer.as_str()), ("Host", host)];
        TestSession::from(&call_api(&home, "POST", "/admin/session", &headers))
    };
    let [first, second] = ["localhost:9001", "[::1]:9002"].map(sign_in);
    let (one, two) = (&first.cookie, &second.cookie);
    assert!(one.starts_with("fullon-session-9001="), "{one}");
    assert!(two.starts_with("fullon-session-9002="), "{two}");
    let port = home.admin_address().rsplit(':').next().unwrap().to_owned();
    let bound = format!("fullon-session-{port}=");
    assert!(sign_in("localhost").cookie.starts_with(&bound));
    assert!(sign_in(&home.admin_address()).cookie.starts_with(&bound));

    let both = format!("{one}; {two}");
    let with = |method, path, host: &str, session: &TestSession| {
        let origin = format!("http://{host}");
        let value = ("X-Fullon-Session", session.session.as_str());
        let headers = [
            ("Host", host),
            ("Origin", &origin),
            ("Cookie", &both),
            value,
        ];
        call_api(&home, method, path, &headers)
    };
    let status = |host, session| with("GET", "/admin/status", host, session).status;
    assert_eq!(status("localhost:9001", &first), 200);
    assert_eq!(status("localhost:9001", &second), 401);
    let out = with("DELETE", "/admin/session", "localhost:9001", &first);
    let cleared = out.header("set-cookie").unwrap();
    assert!(cleared.starts_with("fullon-session-9001=;"), "{cleared}");
    assert_eq!(status("localhost:9001", &first), 401);
    assert_eq!(status("[::1]:9002", &second), 200);
    assert_eq!(status("localhost:9003", &second), 401);
}

#[test]
fn session_survives_restart_but_not_key_change() {
    let mut home = Home::new();
    home.unset("JWT_SECRET_KEY");
    home.set("JWT_SECRET_KEY_GRACE", "0");
    home.write_env(&format!("JWT_SECRET_KEY={SECRET}\n"));
    home.run(["start"]).succeeds();
    let session = home.sign_in("admin:read");
    home.run(["restart"]).succeeds();
    assert_eq!(status(&home, &session).status, 200);
    home.write_env(&format!("JWT_SECRET_KEY={}\n", SECRET.to_uppercase()));
    home.run(["reload"]).succeeds();
    assert_refused(&status(&home, &session), "ended");
}

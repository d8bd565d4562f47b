//! Exchanging a token for a session, and the limits of a session.

use fullon_master_api::auth::TokenSigner;
use fullon_master_api::config::Secret;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::{assert_refused, call_api, sign_in, status, with_current_port};
use crate::support::{Connection, Home, eventually};

const SECRET: &str = "a secret of the tests, forty bytes long.";

#[test]
fn token_is_exchanged_for_session_cookie() {
    let home = Home::started();
    let token = home
        .run(["token", "--subject", "page", "--scope", "admin:read"])
        .succeeds()
        .stdout;
    let token = format!("Bearer {}", token.trim());
    let before = jiff::Timestamp::now();
    let answer = call_api(
        &home,
        "POST",
        "/admin/session",
        &[("Authorization", &token)],
    );
    assert_eq!(answer.status, 201, "{answer:#?}");
    let session = answer.json();
    assert_eq!(
        (&session["subject"], &session["scopes"]),
        (&json!("page"), &json!(["admin:read"]))
    );
    let expires_at: jiff::Timestamp = session["expires_at"].as_str().unwrap().parse().unwrap();
    let hours = expires_at.duration_since(before).as_secs_f64() / 3600.0;
    assert!((11.9..12.1).contains(&hours), "{hours}");
    assert_eq!(answer.header("cache-control"), Some("no-store"));

    let cookie = answer.header("set-cookie").unwrap();
    let port = home.admin_address().rsplit(':').next().unwrap().to_owned();
    assert!(
        cookie.starts_with(&format!("fullon-session-{port}=")),
        "{cookie}"
    );
    let mut attributes: Vec<_> = cookie.split("; ").skip(1).collect();
    attributes.sort_unstable();
    assert_eq!(
        attributes,
        ["HttpOnly", "Max-Age=43200", "Path=/", "SameSite=Strict"]
    );

    let cookie = format!("theme=dark; {}; other=1", answer.cookie());
    assert_eq!(status(&home, &cookie).status, 200);

    let cookie = sign_in(&home, "admin:logs");
    let mut stream = Connection::open(&home.admin_address());
    stream.send("GET", "/admin/logs/stream", &[("Cookie", &cookie)], "");
    assert_eq!(stream.read_head().status, 200);
    eventually("a line arrives", || {
        stream.read_line().starts_with("data: ")
    });
}

#[test]
fn instance_key_token_is_exchanged_for_session_cookie() {
    let home = Home::started();
    let key = home.state().instance_key.to_secret();
    let token = TokenSigner::with_instance_key(&key)
        .sign(
            "me",
            "admin:read".parse().unwrap(),
            std::time::Duration::from_mins(1),
        )
        .unwrap();
    let headers = [("Authorization", &*format!("Bearer {token}"))];
    let answer = call_api(&home, "POST", "/admin/session", &headers);
    assert_eq!(answer.status, 201);
    let cookie = answer.cookie();
    assert_eq!(status(&home, &cookie).status, 200);
    // Unlike the token, the session outlives the process. The port may change.
    home.run(["restart"]).succeeds();
    assert_eq!(
        status(&home, &with_current_port(&home, &cookie)).status,
        200
    );
}

/// Signs claims with the configured key.
fn sign_claims(claims: &Value) -> String {
    // Initialises the signing library.
    let _ = TokenSigner::with_configured_key(&Secret::new(SECRET.into()));
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key).unwrap()
}

#[test]
fn session_and_token_are_not_interchangeable() {
    let mut home = Home::new();
    home.set("JWT_SECRET_KEY", SECRET);
    home.run(["start"]).succeeds();
    let cookie = sign_in(&home, "admin:read");
    let (name, value) = cookie.split_once('=').unwrap();
    let now = jiff::Timestamp::now().as_second();
    let claims = |aud: &str, exp: i64| {
        json!({
            "sub": "me", "aud": aud, "scope": "admin:read", "exp": exp,
            "jti": "7f1d5f0e-6f0e-4b5c-9d0b-1f2e3d4c5b6a",
        })
    };
    let good = sign_claims(&claims("fullon-session", now + 60));
    assert_eq!(status(&home, &format!("{name}={good}")).status, 200);
    let token = home.token("admin:read");
    let expired = sign_claims(&claims("fullon-session", now - 60));
    let foreign_audience = sign_claims(&claims("elsewhere", now + 60));
    let (signed, _) = good.rsplit_once('.').unwrap();
    let (_, other_signature) = expired.rsplit_once('.').unwrap();
    let tampered = format!("{signed}.{other_signature}");
    for (value, text) in [
        (token.as_str(), "another audience"),
        (&foreign_audience, "another audience"),
        (&expired, "expired"),
        (&tampered, "another key"),
        ("nonsense", "malformed"),
        ("", "malformed"),
    ] {
        assert_refused(&status(&home, &format!("{name}={value}")), text);
    }

    let bearer = |value: &str| {
        let headers = [
            ("Authorization", &*format!("Bearer {value}")),
            ("Cookie", &cookie),
        ];
        call_api(&home, "GET", "/admin/status", &headers)
    };
    assert_refused(&bearer(value), "another audience");
    // An `Authorization` header takes precedence, even an invalid one.
    assert_refused(&bearer("nonsense"), "malformed");
    assert_eq!(bearer(&token).status, 200);

    // A cookie of another port is ignored. An invalid one next to a valid one does no harm.
    assert_refused(
        &status(&home, &format!("fullon-session-1={good}")),
        "Authorization",
    );
    assert_eq!(
        status(&home, &format!("{name}=nonsense; {name}={good}")).status,
        200
    );

    // A session cannot extend itself.
    let origin = format!("http://{}", home.admin_address());
    let headers = [("Cookie", cookie.as_str()), ("Origin", &origin)];
    assert_refused(
        &call_api(&home, "POST", "/admin/session", &headers),
        "fullon token",
    );
}

#[test]
fn session_has_scopes_of_its_token() {
    let home = Home::started();
    let cookie = sign_in(&home, "admin:logs");
    let origin = format!("http://{}", home.admin_address());
    let headers = [("Cookie", cookie.as_str()), ("Origin", &origin)];
    assert_eq!(
        call_api(&home, "GET", "/admin/logs?lines=1", &headers).status,
        200
    );
    call_api(&home, "GET", "/admin/status", &headers).assert_problem(403, "admin:read");
    call_api(&home, "POST", "/admin/stop", &headers).assert_problem(403, "admin:control");
    home.run(["status"]).succeeds();
}

#[test]
fn change_with_cookie_needs_own_origin() {
    let home = Home::started();
    let host = home.admin_address();
    let cookie = sign_in(&home, "admin:read admin:control");
    let origin = format!("http://{host}");
    let with = |method, path, headers: &[(&str, &str)]| {
        let headers: Vec<_> = [("Cookie", cookie.as_str())]
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

/// Two tunnels to two daemons end on two ports of one host, and a browser keeps their cookies
/// together.
#[test]
fn cookie_name_has_port_of_host_header() {
    let home = Home::started();
    let bearer = home.bearer();
    let sign_in = |host: &str| {
        let headers = [("Authorization", bearer.as_str()), ("Host", host)];
        let answer = call_api(&home, "POST", "/admin/session", &headers);
        assert_eq!(answer.status, 201, "{answer:#?}");
        answer.cookie()
    };
    let [first, second] = ["localhost:9001", "[::1]:9002"].map(sign_in);
    assert!(first.starts_with("fullon-session-9001="), "{first}");
    assert!(second.starts_with("fullon-session-9002="), "{second}");
    let port = home.admin_address().rsplit(':').next().unwrap().to_owned();
    let bound = format!("fullon-session-{port}=");
    assert!(sign_in("localhost").starts_with(&bound));
    assert!(sign_in(&home.admin_address()).starts_with(&bound));

    let both = format!("{first}; {second}");
    let with = |method, path, host: &str, cookie: &str| {
        let origin = format!("http://{host}");
        let headers = [("Host", host), ("Origin", &origin), ("Cookie", cookie)];
        call_api(&home, method, path, &headers)
    };
    let status = |host| with("GET", "/admin/status", host, &both).status;
    assert_eq!(status("localhost:9001"), 200);
    let out = with("DELETE", "/admin/session", "localhost:9001", &both);
    let cleared = out.header("set-cookie").unwrap();
    assert!(cleared.starts_with("fullon-session-9001=;"), "{cleared}");
    assert_eq!(status("localhost:9001"), 401);
    assert_eq!(status("[::1]:9002"), 200);
    assert_eq!(status("localhost:9003"), 401);
}

#[test]
fn session_survives_restart_but_not_key_change() {
    let mut home = Home::new();
    home.set("JWT_SECRET_KEY", SECRET);
    home.run(["start"]).succeeds();
    let cookie = sign_in(&home, "admin:read");
    home.run(["restart"]).succeeds();
    assert_eq!(
        status(&home, &with_current_port(&home, &cookie)).status,
        200
    );
    home.set("JWT_SECRET_KEY", &SECRET.to_uppercase());
    home.run(["restart", "--hard"]).succeeds();
    assert_refused(
        &status(&home, &with_current_port(&home, &cookie)),
        "another key",
    );
}

//! Invalid tokens: each is refused in the same way, has no effect, and is never written to a file.
//! See RFC 7515 (signatures), 7519 (claims), 6750 (transport) and 8725 (known attacks).

mod claims;
mod headers;
mod shapes;
mod signatures;
mod transports;

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;

use fullon_master_api::auth::TokenSigner;
use serde_json::{Value, json};

use crate::support::jwt::{self, HEADER, SECRET, sign};
use crate::support::{Connection, Home, Response, TestSession, eventually};

const SCOPES: &str = "admin:read admin:logs admin:control";
/// The key shown in the documentation.
const PLACEHOLDER: &str = "your-secret-key";
const ATTACKER_KEY: &str = "a key that nobody but the attacker knows";

/// A request with an invalid token.
struct Attempt {
    name: String,
    /// Raw header lines.
    headers: Vec<u8>,
    query: String,
    body: String,
    /// Text that must not appear in any file afterwards.
    tokens: Vec<String>,
}

impl Attempt {
    fn with(what: impl Into<String>, headers: impl Into<Vec<u8>>, token: &str) -> Self {
        Self {
            name: what.into(),
            headers: headers.into(),
            query: String::new(),
            body: String::new(),
            tokens: vec![token.to_owned()],
        }
    }

    fn bearer(what: impl Into<String>, token: &str) -> Self {
        Self::with(what, format!("Authorization: Bearer {token}\r\n"), token)
    }

    fn send(&self, host: &str, method: &str, path: &str) -> Response {
        let mut connection = Connection::open(host);
        let (query, length) = (&self.query, self.body.len());
        let head = format!("{method} {path}{query} HTTP/1.1\r\nHost: {host}\r\n");
        connection.send_bytes(head.as_bytes());
        connection.send_bytes(&self.headers);
        let rest = format!("Content-Length: {length}\r\n\r\n{}", self.body);
        connection.send_bytes(rest.as_bytes());
        // A log stream has no end.
        let answer = connection.read_head();
        if answer.status == 200 {
            return answer;
        }
        let length = answer.header("content-length").unwrap().parse().unwrap();
        let body = connection.read_text(length);
        Response { body, ..answer }
    }

    /// The defect of the response, if there is one.
    fn find_fault(&self, answer: &Response) -> Option<String> {
        let problem: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        let is_refused = answer.status == 401
            && answer.header("www-authenticate") == Some(self.challenge())
            && answer.header("content-type") == Some("application/problem+json")
            && answer.header("set-cookie").is_none()
            && problem["status"] == 401
            && problem["title"].is_string()
            && problem["detail"].is_string();
        if !is_refused {
            return Some(format!("{}: {answer:?}", self.name));
        }
        let is_repeated = self
            .recognisable_parts()
            .any(|crumb| answer.body.contains(crumb));
        is_repeated.then(|| format!("{}: the answer repeats it: {answer:?}", self.name))
    }

    /// There is an error code only if the request has a token (RFC 6750, section 3.1).
    fn challenge(&self) -> &'static str {
        let headers = String::from_utf8_lossy(&self.headers);
        let is_bearer = |line: &str| {
            let (name, value) = line.split_once(':').unwrap_or_default();
            let scheme = value.trim_start().split(' ').next().unwrap_or_default();
            name.eq_ignore_ascii_case("authorization") && scheme.eq_ignore_ascii_case("bearer")
        };
        if headers.split("\r\n").any(is_bearer) {
            "Bearer error=\"invalid_token\""
        } else {
            "Bearer"
        }
    }

    /// The parts of the tokens that are long enough not to match by accident.
    fn recognisable_parts(&self) -> impl Iterator<Item = &str> {
        let parts = self.tokens.iter().flat_map(|token| token.split('.'));
        parts.filter(|part| part.len() >= 16)
    }
}

/// Valid claims with one replaced. `Null` stays in the JSON.
fn claims_with(name: &str, value: Value) -> String {
    let mut claims = jwt::claims(SCOPES);
    claims[name] = value;
    claims.to_string()
}

fn valid_token() -> String {
    jwt::token(SCOPES)
}

fn start_daemon() -> Home {
    let mut home = Home::new();
    home.set("JWT_SECRET_KEY", SECRET);
    home.set("LOG_LEVEL", "TRACE");
    home.set("FAILED_TOKENS_PER_MINUTE", "10000");
    home.run(["start"]).succeeds();
    home
}

/// Sends each attempt to several operations. Returns what went wrong.
fn find_faults(home: &Home, attempts: &[Attempt]) -> Vec<String> {
    let host = home.admin_address();
    let operations = [
        ("GET", "/admin/status"),
        ("GET", "/admin/logs/stream"),
        ("POST", "/admin/session"),
        // Last, because it would stop the daemon.
        ("POST", "/admin/stop"),
    ];
    let fault = |attempt: &Attempt| {
        let mut answers = operations
            .iter()
            .map(|(method, path)| attempt.send(&host, method, path));
        answers.find_map(|answer| attempt.find_fault(&answer))
    };
    attempts.iter().filter_map(fault).collect()
}

/// The content of every file in the home.
fn file_contents(home: &Home) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(home.path()).unwrap().flatten();
    let files = entries.filter(|entry| entry.file_type().unwrap().is_file());
    files.map(|entry| fs::read(entry.path()).unwrap()).collect()
}

fn session(host: &str) -> TestSession {
    let answer = Attempt::bearer("good", &valid_token()).send(host, "POST", "/admin/session");
    TestSession::from(&answer)
}

#[test]
fn all_forgeries_are_refused_alike_and_never_written() {
    let home = start_daemon();
    let (host, daemon) = (home.admin_address(), home.daemon().unwrap());
    // Tokens refer to keys at this address. The daemon must never connect to it.
    let key_server = TcpListener::bind("127.0.0.1:0").unwrap();
    key_server.set_nonblocking(true).unwrap();
    let address = key_server.local_addr().unwrap().to_string();
    let instance = home.state().instance_key.to_secret();
    let attempts: Vec<_> = transports::all(&host, &session(&host))
        .into_iter()
        .chain(headers::all(instance.expose(), &address))
        .chain(signatures::all())
        .chain(shapes::all())
        .chain(claims::all())
        .collect();
    let kinds: BTreeSet<_> = attempts.iter().map(|attempt| &attempt.name).collect();
    assert!(
        kinds.len() == attempts.len() && kinds.len() > 250,
        "{}",
        kinds.len()
    );
    assert_eq!(
        Attempt::bearer("good", &valid_token())
            .send(&host, "GET", "/admin/status")
            .status,
        200
    );

    let faults = find_faults(&home, &attempts);
    let count = faults.len();
    assert!(faults.is_empty(), "{count}: {faults:#?}");
    let accept_error = key_server.accept().unwrap_err().kind();
    assert_eq!(accept_error, std::io::ErrorKind::WouldBlock);
    assert_eq!(home.daemon().unwrap().pid(), daemon.pid());
    home.log_request("the-last");
    eventually("all requests are logged", || {
        home.log().contains("the-last")
    });
    let files = file_contents(&home);
    for attempt in &attempts {
        for crumb in attempt.recognisable_parts() {
            let has_it = |file: &Vec<u8>| memchr::memmem::find(file, crumb.as_bytes()).is_some();
            let what = &attempt.name;
            assert!(!files.iter().any(has_it), "{what}: {crumb} is in a file");
        }
    }
}

/// Only the holder of the key can make these tokens. They are refused because they are malformed.
#[test]
fn malformed_token_with_valid_signature_is_refused() {
    let home = start_daemon();
    let claims = jwt::claims(SCOPES).to_string();
    let of_header =
        |header: &str| Attempt::bearer(format!("header {header}"), &sign(SECRET, header, &claims));
    let of_claim = |(name, value): &(&str, Value)| {
        let token = sign(SECRET, HEADER, claims_with(name, value.clone()));
        Attempt::bearer(format!("{name} {value}"), &token)
    };
    let not_text = [b"{\"x\":\"\xff\",", &claims.as_bytes()[1..]].concat();
    let headers = [
        r#"{"alg":{"HS256":null}}"#,
        r#"{"alg":"HS256","crit":null}"#,
    ];
    let values = [
        ("iat", json!("yesterday")),
        ("iat", json!(null)),
        ("iat", json!(true)),
        ("iat", json!([])),
        ("iat", json!({})),
        ("iss", json!(7)),
        ("iss", json!(null)),
        ("iss", json!([])),
        ("iss", json!({})),
        ("jti", json!(null)),
    ];
    let attempts: Vec<_> = headers
        .map(of_header)
        .into_iter()
        .chain(values.iter().map(of_claim))
        .chain([Attempt::bearer(
            "claims not UTF-8",
            &sign(SECRET, HEADER, not_text),
        )])
        .collect();
    let faults = find_faults(&home, &attempts);
    assert!(faults.is_empty(), "{faults:#?}");
}

/// A proxy may have checked the other header.
#[test]
fn duplicate_authorization_header_is_refused() {
    let home = start_daemon();
    let good = valid_token();
    let second = ["", "Bearer x", "Basic eDp5", &format!("Bearer {good}")];
    let attempts = second.map(|second| {
        let lines = format!("Authorization: Bearer {good}\r\nAuthorization: {second}\r\n");
        Attempt::with(format!("and `{second}`"), lines, &good)
    });
    let faults = find_faults(&home, &attempts);
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn every_form_allowed_by_standards_is_accepted() {
    let home = start_daemon();
    let (host, good) = (home.admin_address(), valid_token());
    let claims = jwt::claims(SCOPES).to_string();
    let now = jiff::Timestamp::now().as_second();
    let headers = [
        r#"{"alg":"HS256"}"#,
        r#"{"alg":"HS256","typ":"at+jwt"}"#,
        r#"{"\u0061lg":"HS\u003256"}"#,
        // `kid` is only a hint, and this one has no effect.
        r#"{"alg":"HS256","kid":"../../../../dev/null"}"#,
        r#"{"alg":"HS256","jku":"http://127.0.0.1:9/key"}"#,
        r#"{"alg":"HS256","unknown":[1,{"x":null}]}"#,
        " { \"alg\" : \"HS256\" }\n",
    ];
    let half_past = format!("{}.5", now + 3600);
    let values = [
        ("aud", json!(["other", "fullon-admin"])),
        ("exp", half_past.parse().unwrap()),
        ("nbf", json!(0)),
        ("nbf", json!(now)),
        ("iat", json!(now)),
        ("iat", json!(1.5)),
        ("iss", json!("https://issuer.example")),
        ("jti", json!("7")),
        ("scope", json!("openid admin:read profile")),
        ("scope", json!("admin:read admin:read")),
        ("unknown", json!({ "x": [1] })),
    ];
    let mut attempts: Vec<_> = headers
        .iter()
        .map(|header| Attempt::bearer(*header, &sign(SECRET, header, &claims)))
        .collect();
    attempts.extend(values.map(|(name, value)| {
        let what = format!("{name} {value}");
        Attempt::bearer(what, &sign(SECRET, HEADER, claims_with(name, value)))
    }));
    for lines in [
        format!("Authorization: bEARER {good}\r\n"),
        format!("authorization:Bearer   {good}  \r\n"),
        format!("Cookie: a=b\r\nAuthorization: Bearer {good}\r\n"),
    ] {
        attempts.push(Attempt::with("transport", lines, &good));
    }
    for attempt in attempts {
        let answer = attempt.send(&host, "GET", "/admin/status");
        assert_eq!(answer.status, 200, "{}: {answer:?}", attempt.name);
    }
    let without_scope = Attempt::bearer("no scope", &jwt::token(""));
    let answer = without_scope.send(&host, "GET", "/admin/status");
    answer.assert_problem(403, "admin:read");
}

#[test]
fn malformed_http_is_refused_before_token_check() {
    let home = start_daemon();
    let good = valid_token();
    for lines in [
        format!("Authorization: Bearer {good}\0\r\n"),
        format!("Authorization: \0Bearer {good}\r\n"),
        format!("Authorization: Bearer\r\n {good}\r\n"),
        format!("Authorization : Bearer {good}\r\n"),
        format!("Authorization: Bearer {good}\rX: y\r\n"),
    ] {
        let attempt = Attempt::with("no HTTP", lines.as_str(), &good);
        let answer = attempt.send(&home.admin_address(), "POST", "/admin/stop");
        assert_eq!(answer.status, 400, "{lines:?}");
    }
    home.run(["status"]).succeeds();
}

#[test]
fn token_signed_with_former_key_is_refused() {
    let mut home = start_daemon();
    let status = |home: &Home, token: &str| {
        Attempt::bearer("key", token).send(&home.admin_address(), "GET", "/admin/status")
    };
    let lifetime = std::time::Duration::from_hours(1);
    let scopes = "admin:read".parse().unwrap();
    let instance = TokenSigner::with_instance_key(&home.state().instance_key.to_secret());
    let instance = instance.sign("me", scopes, lifetime).unwrap();
    let configured = valid_token();
    assert_eq!(status(&home, &instance).status, 200);
    home.run(["stop"]).succeeds();
    home.run(["start"]).succeeds();
    status(&home, &instance).assert_problem(401, "another key");
    assert_eq!(status(&home, &configured).status, 200);
    home.run(["stop"]).succeeds();
    home.set("JWT_SECRET_KEY", ATTACKER_KEY);
    home.run(["start"]).succeeds();
    status(&home, &configured).assert_problem(401, "another key");
    assert_eq!(status(&home, &home.token("admin:read")).status, 200);
}

/// The holder of the key may choose any subject, but cannot forge log lines.
#[test]
fn claims_cannot_forge_log_lines() {
    let home = start_daemon();
    let forged = "2026-01-01T00:00:00.000000Z  INFO audit: action=\"forged\"";
    let mut claims = jwt::claims(SCOPES);
    for name in ["sub", "jti"] {
        claims[name] = json!(format!("x\n{forged}\r\n{forged}\u{2028}\u{85}\u{1b}[2J\0"));
    }
    let attempt = Attempt::bearer("forged", &sign(SECRET, HEADER, claims.to_string()));
    let answer = attempt.send(&home.admin_address(), "POST", "/admin/reload");
    assert_eq!(answer.status, 200, "{answer:?}");
    home.run(["stop"]).succeeds();
    let log = home.log();
    assert!(log.contains("audit: action=\"reload\""));
    assert!(!log.lines().any(|line| line.starts_with(forged)));
    assert!(
        !log.contains(['\u{1b}', '\0', '\r', '\u{85}', '\u{2028}']),
        "{log:?}"
    );
}

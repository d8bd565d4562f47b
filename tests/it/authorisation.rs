//! Calls every operation as every kind of caller.

use std::cell::OnceCell;

use serde_json::Value;

use crate::support::jwt::{self, SECRET};
use crate::support::{Connection, Home, Response, TestSession, request};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Requirement {
    Scope(&'static str),
    /// A token of any scope. A session is not accepted.
    Token,
    /// A session. A token is not accepted.
    Session,
}

const READ: Requirement = Requirement::Scope("admin:read");
const LOGS: Requirement = Requirement::Scope("admin:logs");
const CONTROL: Requirement = Requirement::Scope("admin:control");

/// Required credential and success status of each operation. Operations that would end the daemon
/// get an invalid body.
const OPERATIONS: [(&str, &str, Requirement, u16); 19] = [
    ("GET", "/admin/status", READ, 200),
    ("GET", "/admin/config", READ, 200),
    ("GET", "/admin/metrics", READ, 200),
    ("GET", "/admin/log-level", READ, 200),
    ("PUT", "/admin/log-level", CONTROL, 400),
    ("GET", "/admin/logs", LOGS, 200),
    ("GET", "/admin/logs/stream", LOGS, 200),
    ("GET", "/admin/audit", LOGS, 200),
    ("POST", "/admin/stop", CONTROL, 400),
    ("POST", "/admin/restart", CONTROL, 400),
    ("POST", "/admin/reload", CONTROL, 200),
    ("POST", "/admin/session", Requirement::Token, 201),
    ("GET", "/admin/session", Requirement::Session, 200),
    ("DELETE", "/admin/session", Requirement::Session, 204),
    ("GET", "/admin/session/token", Requirement::Token, 200),
    ("POST", "/admin/session/token", Requirement::Token, 201),
    ("GET", "/admin/sessions", LOGS, 200),
    ("DELETE", "/admin/sessions/{id}", CONTROL, 404),
    ("POST", "/admin/tokens/revoke", CONTROL, 400),
];
const INVALID_BODY: &str = r#"{"timeout_seconds":-1}"#;

const SCOPES: [&str; 3] = ["admin:read", "admin:logs", "admin:control"];

/// Scopes that grant nothing.
const NO_SCOPES: [&str; 14] = [
    "",
    "admin",
    "admin:",
    "admin:*",
    "*",
    "read logs control",
    "ADMIN:READ ADMIN:LOGS ADMIN:CONTROL",
    "admin:reads admin:logs2 admin:controller",
    "xadmin:read xadmin:logs xadmin:control",
    "admin:read,admin:logs,admin:control",
    "admin:read\tadmin:logs\tadmin:control",
    "\"admin:read\" \"admin:logs\" \"admin:control\"",
    "admin:read\u{0} admin:logs\u{0} admin:control\u{0}",
    "admin: read admin: logs admin: control",
];

struct Operation {
    method: String,
    path: String,
    requirement: Requirement,
    success_status: u16,
}

/// The operations of the served document. Each must be listed in `OPERATIONS`.
fn operations(home: &Home) -> Vec<Operation> {
    let document = request(&home.admin_address(), "GET", "/admin/openapi.json", &[], "").json();
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let method = method.to_uppercase();
            let known = OPERATIONS
                .iter()
                .find(|known| (known.0, known.1) == (&method, path));
            let (.., requirement, success_status) =
                known.unwrap_or_else(|| panic!("{method} {path} is not in OPERATIONS"));
            let (requirement, success_status) = (*requirement, *success_status);
            if method == "GET" {
                operations.push(Operation {
                    method: "HEAD".into(),
                    path: path.clone(),
                    requirement,
                    success_status,
                });
            }
            operations.push(Operation {
                method,
                path: path.clone(),
                requirement,
                success_status,
            });
        }
    }
    assert!(operations.len() > 12, "{document:#}");
    operations
}

fn start_daemon() -> Home {
    let mut home = Home::new();
    home.set("JWT_SECRET_KEY", SECRET);
    home.set("FAILED_TOKENS_PER_MINUTE", "10000");
    home.run(["start"]).succeeds();
    home
}

/// The credential that a caller presents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Credential {
    Nothing,
    Token,
    Session,
}

struct Caller<'a> {
    host: &'a str,
    credential: Credential,
    scope: String,
    session: OnceCell<TestSession>,
}

impl Caller<'_> {
    fn sign_in(&self) -> TestSession {
        let bearer = format!("Bearer {}", jwt::token(&self.scope));
        let headers = [("Authorization", bearer.as_str())];
        TestSession::from(&request(self.host, "POST", "/admin/session", &headers, ""))
    }

    fn headers(&self, method: &str) -> Vec<(&'static str, String)> {
        let bearer = (
            "Authorization",
            format!("Bearer {}", jwt::token(&self.scope)),
        );
        match self.credential {
            Credential::Nothing => vec![],
            Credential::Token => vec![bearer],
            Credential::Session => {
                let session = if method == "DELETE" {
                    // A session of its own, because the request ends it.
                    self.sign_in()
                } else {
                    self.session.get_or_init(|| self.sign_in()).clone()
                };
                let origin = format!("http://{}", self.host);
                vec![
                    ("Cookie", session.cookie),
                    ("X-Fullon-Session", session.session),
                    ("Origin", origin),
                ]
            }
        }
    }

    /// Status and headers, and the body if it is a problem.
    fn ask(&self, method: &str, path: &str) -> Response {
        let headers = self.headers(method);
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let body = if method == "POST" { INVALID_BODY } else { "" };
        let mut connection = Connection::open(self.host);
        connection.send(method, path, &headers, body);
        let answer = connection.read_head();
        if answer.status < 400 || method == "HEAD" {
            return answer;
        }
        let length = answer.header("content-length").unwrap().parse().unwrap();
        Response {
            body: connection.read_text(length),
            ..answer
        }
    }

    #[track_caller]
    fn assert_response(&self, operation: &Operation) {
        let Operation {
            method,
            path,
            requirement,
            success_status,
        } = operation;
        let answer = self.ask(method, path);
        let has = |scope: &str| self.scope.split(' ').any(|word| word == scope);
        let no_token_challenge = Some("Bearer".to_owned());
        let (status, challenge, text) = match (self.credential, requirement) {
            (Credential::Nothing | Credential::Token, Requirement::Session) => {
                (401, no_token_challenge, "POST /admin/session")
            }
            (Credential::Nothing, _) | (Credential::Session, Requirement::Token) => {
                (401, no_token_challenge, "fullon token")
            }
            (_, Requirement::Scope(scope)) if !has(scope) => {
                let challenge = format!("Bearer error=\"insufficient_scope\", scope=\"{scope}\"");
                (403, Some(challenge), *scope)
            }
            (_, Requirement::Token) if !SCOPES.iter().any(|scope| has(scope)) => {
                let scopes = SCOPES.join(" ");
                let challenge = format!("Bearer error=\"insufficient_scope\", scope=\"{scopes}\"");
                (403, Some(challenge), "none of the scopes")
            }
            _ => (*success_status, None, ""),
        };
        let caller = format!("{method} {path} by {:?} `{}`", self.credential, self.scope);
        assert_eq!(answer.status, status, "{caller}: {answer:#?}");
        assert_eq!(
            answer.header("www-authenticate"),
            challenge.as_deref(),
            "{caller}"
        );
        if status >= 400 && method != "HEAD" {
            answer.assert_problem(status, text);
        }
    }
}

#[test]
fn every_operation_enforces_its_scope_for_every_caller() {
    let home = start_daemon();
    let (host, daemon) = (home.admin_address(), home.daemon().unwrap());
    let operations = operations(&home);
    let caller = |credential, scope: String| Caller {
        host: &host,
        credential,
        scope,
        session: OnceCell::new(),
    };
    let mut callers = vec![caller(Credential::Nothing, String::new())];
    for set in 0..1 << SCOPES.len() {
        let words = SCOPES.iter().enumerate();
        let words = words.filter(|(bit, _)| set & (1 << bit) != 0);
        let words: Vec<_> = words.map(|(_, word)| *word).collect();
        callers.push(caller(Credential::Token, words.join(" ")));
        if !words.is_empty() {
            callers.push(caller(Credential::Session, words.join(" ")));
        }
    }
    for words in NO_SCOPES {
        callers.push(caller(Credential::Token, words.to_owned()));
    }
    for caller in &callers {
        for operation in &operations {
            caller.assert_response(operation);
        }
    }
    assert_eq!(home.daemon().unwrap().pid(), daemon.pid());
}

/// Covers methods that some frameworks take from a header.
#[test]
fn unknown_methods_are_refused_with_405() {
    let home = start_daemon();
    let host = home.admin_address();
    let known = operations(&home);
    let bearer = format!("Bearer {}", jwt::token(&SCOPES.join(" ")));
    let headers = [
        ("Authorization", bearer.as_str()),
        ("X-HTTP-Method-Override", "POST"),
        ("X-Original-URL", "/admin/stop"),
    ];
    let methods = [
        "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "post", "STOP",
    ];
    for operation in &known {
        let path = &operation.path;
        let is_known = |method: &&str| {
            let same = |known: &Operation| known.path == *path && known.method == **method;
            known.iter().any(same)
        };
        for method in methods.iter().filter(|method| !is_known(method)) {
            let answer = request(&host, method, path, &headers, "");
            assert_eq!(answer.status, 405, "{method} {path}: {answer:#?}");
            let allowed: Vec<_> = answer.header("allow").unwrap().split(", ").collect();
            let all = known.iter().filter(|known| known.path == *path);
            let all: Vec<_> = all.map(|known| known.method.as_str()).collect();
            assert!(
                allowed.len() == all.len() && all.iter().all(|method| allowed.contains(method)),
                "{path}: {allowed:?}"
            );
        }
    }
    home.run(["status"]).succeeds();
}

/// Other spellings of a path, and the other port.
#[test]
fn path_variants_and_public_port_bypass_nothing() {
    let home = start_daemon();
    let (admin, public) = (home.admin_address(), home.public_address());
    let bearer = format!("Bearer {}", jwt::token(&SCOPES.join(" ")));
    let unauthenticated = Caller {
        host: &admin,
        credential: Credential::Nothing,
        scope: String::new(),
        session: OnceCell::new(),
    };
    let without_scope = Caller {
        host: &admin,
        credential: Credential::Token,
        scope: "none".into(),
        session: OnceCell::new(),
    };
    for Operation {
        method,
        path,
        requirement,
        ..
    } in operations(&home)
    {
        let (first, last) = path.rsplit_once('/').unwrap();
        let (letter, rest) = last.split_at(1);
        let code = letter.as_bytes()[0];
        let spellings = [
            format!("{path}/"),
            format!("/{path}"),
            format!("{first}//{last}"),
            format!("{first}/./{last}"),
            format!("{first}/../admin/{last}"),
            format!("/admin/docs/../{last}"),
            format!("/admin/docs/..%2f{last}"),
            format!("{first}%2f{last}"),
            format!("{first}/%{code:02x}{rest}"),
            format!("{first}/%25{code:02x}{rest}"),
            format!("{path};x=1"),
            format!("{path}%00"),
            format!("{path}%20"),
            format!("{path}.json"),
            format!("{path}?"),
            format!("{path}?x=/admin/docs"),
            path.to_uppercase(),
            format!("http://{admin}{path}"),
            format!("http://localhost{path}"),
        ];
        for spelling in &spellings {
            for caller in [&unauthenticated, &without_scope] {
                if caller.credential == Credential::Token && requirement == Requirement::Token {
                    continue;
                }
                let answer = caller.ask(&method, spelling);
                // 308 leads to the path itself.
                let refusals = [308, 400, 401, 403, 404];
                assert!(
                    refusals.contains(&answer.status),
                    "{method} {spelling}: {answer:#?}"
                );
            }
        }
        let headers = [("Authorization", bearer.as_str())];
        let on_public_port = request(&public, &method, &path, &headers, "");
        assert_eq!(
            on_public_port.status, 404,
            "{method} {path}: {on_public_port:#?}"
        );
    }
    home.run(["status"]).succeeds();
}

#[test]
fn openapi_document_is_public_and_holds_no_secret() {
    let home = start_daemon();
    for path in ["/admin/openapi.json", "/admin/docs"] {
        let answer = request(&home.admin_address(), "GET", path, &[], "");
        assert_eq!(answer.status, 200);
        assert!(!answer.body.contains(SECRET));
        let place = home.path().display().to_string();
        assert!(!answer.body.contains(&place));
    }
    let document: Value =
        request(&home.admin_address(), "GET", "/admin/openapi.json", &[], "").json();
    let schemes = &document["components"]["securitySchemes"];
    assert_eq!(schemes["bearer"]["scheme"], "bearer");
    assert_eq!(schemes["session"]["in"], "header");
    assert_eq!(schemes["cookie"]["in"], "cookie");
    assert_eq!(schemes["ticket"]["in"], "query");
}

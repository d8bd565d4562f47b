//! A running daemon follows its OpenAPI documents: schemathesis sends valid and invalid requests
//! and applies all of its checks to the responses.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Home, TestSession, free_port, prerequisite_available, request, scale};

/// Every operation must have succeeded at least once, and earlier runs have no influence.
const WITH_ACCESS: &str = r#"
warnings = { fail-on = true }
generation = { database = "none", max-examples = 10 }
cache = { enabled = false }
"#;

/// The same for a client without access.
const WITHOUT_ACCESS: &str = r#"
warnings = false
generation = { database = "none", max-examples = 10 }
cache = { enabled = false }
"#;

/// Facts that are not in the document.
const EXCEPTIONS: &str = r#"
# A log stream never ends. A quiet one is left after this many seconds, and slow responses are requested again.
[[operations]]
include-operation-id = "stream_logs"
request-timeout = 0.25
request-retries = 4

# On a busy machine, a restart with a short timeout may fail with 504.
[[operations]]
include-operation-id = "restart_daemon"
checks.not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", 504]
"#;

/// Installed by `scripts/install-test-tools.sh`.
fn program() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("tools/bin/schemathesis")
}

fn needs_schemathesis(test: &str) -> bool {
    let needed = "schemathesis (scripts/install-test-tools.sh)";
    prerequisite_available(test, needed, program().is_file())
}

/// Runs schemathesis in the home. Shows its report if it finds something.
#[track_caller]
fn assert_no_findings(home: &Home, configuration: &str, document: &str, arguments: &[&str]) {
    fs::write(home.path().join("schemathesis.toml"), configuration).unwrap();
    let hook = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/it/schemathesis/hooks.py"
    );
    let seed = scale::seed();
    let output = home
        .command(program())
        .args(["run", document, "--checks=all", "--no-color"])
        .arg(format!("--seed={seed}"))
        .args(arguments)
        .env("SCHEMATHESIS_HOOKS", hook)
        .env("FULLON", env!("CARGO_BIN_EXE_fullon"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "SEED={seed}\n{}\n{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
        home.log(),
    );
}

/// The address of the document that the admin port serves.
fn admin_document(home: &Home) -> String {
    format!("http://{}/admin/openapi.json", home.admin_address())
}

/// A home whose daemon does not limit failed tokens.
fn home_without_token_limit() -> Home {
    let mut home = Home::new();
    home.set("FAILED_TOKENS_PER_MINUTE", "1000000");
    home
}

#[test]
fn public_api_follows_its_document() {
    if !needs_schemathesis("public_api_follows_its_document") {
        return;
    }
    let home = Home::started();
    let document = format!("http://{}/openapi.json", home.public_address());
    assert_no_findings(&home, WITH_ACCESS, &document, &[]);
}

/// Every operation has its effect: the daemon is restarted many times, and started again after each
/// stop.
#[test]
fn admin_api_follows_its_document() {
    if !needs_schemathesis("admin_api_follows_its_document") {
        return;
    }
    let mut home = home_without_token_limit();
    home.set("ADMIN_PORT", &free_port().to_string());
    home.run(["start"]).succeeds();
    let configuration = [WITH_ACCESS, EXCEPTIONS].concat();
    let authorization = format!("Authorization: {}", home.bearer());
    // Operations that need a session have their own test.
    let arguments = [
        "--exclude-operation-id=get_session",
        "--exclude-operation-id=delete_session",
        "-H",
        &authorization,
    ];
    assert_no_findings(&home, &configuration, &admin_document(&home), &arguments);
    let log = home.log();
    for action in ["stop", "restart", "reload", "sign_in", "sign_in_token"] {
        let accepted = format!("action=\"{action}\" outcome=\"accepted\"");
        assert!(log.contains(&accepted), "no {accepted}");
    }
}

#[test]
fn admin_api_follows_its_document_without_token() {
    if !needs_schemathesis("admin_api_follows_its_document_without_token") {
        return;
    }
    let home = home_without_token_limit();
    home.run(["start"]).succeeds();
    let pid = home.daemon().unwrap().pid();
    assert_no_findings(&home, WITHOUT_ACCESS, &admin_document(&home), &[]);
    assert!(!home.log().contains("outcome=\"accepted\""));
    assert_eq!(home.daemon().unwrap().pid(), pid);
}

#[test]
fn admin_api_follows_its_document_with_session() {
    if !needs_schemathesis("admin_api_follows_its_document_with_session") {
        return;
    }
    let mut home = home_without_token_limit();
    home.run(["start"]).succeeds();
    let admin = home.admin_address();
    let document = request(&admin, "GET", "/admin/openapi.json", &[], "").body;
    // The document names the cookie of the default port.
    let port = admin.rsplit(':').next().unwrap();
    let document = document.replace("fullon-session-8001", &format!("fullon-session-{port}"));
    fs::write(home.path().join("admin.json"), document).unwrap();
    let address = format!("--url=http://{admin}");
    home.set("SIGN_IN", &format!("http://{admin}/admin/session"));
    home.set("BEARER", &home.bearer());
    for operation in ["get_session", "delete_session"] {
        let session = TestSession::from(&home.call_admin("POST", "/admin/session"));
        let (_, cookie) = session.cookie.split_once('=').unwrap();
        let value = &session.session;
        // For the hook, which signs in again after each sign-out.
        home.set("COOKIE", &session.cookie);
        home.set("SESSION", value);
        let configuration = format!(
            "{WITH_ACCESS}
[auth.openapi.session]
api_key = \"{value}\"
[auth.openapi.cookie]
api_key = \"{cookie}\"
[[operations]]
include-operation-id = \"{operation}\"
headers = {{ Origin = \"http://{admin}\" }}
"
        );
        let only = format!("--include-operation-id={operation}");
        assert_no_findings(&home, &configuration, "admin.json", &[&address, &only]);
    }
}

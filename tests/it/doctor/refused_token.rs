//! Advice for each reason why the daemon refuses a token.

use std::fs;

use fullon_master_api::instance::StateFile;
use serde_json::json;

use super::daemon_api::serve_always;
use super::{Expected, assert_doctor_finds, assert_findings, port_of, set_mode};
use crate::support::Home;

#[test]
fn refused_token_is_reported_with_reason() {
    let mut home = Home::started();
    let env = home.path().join(".env");
    fs::write(
        &env,
        "JWT_SECRET_KEY=another-secret-that-is-long-enough-to-be-one",
    )
    .unwrap();
    set_mode(&env, 0o600);
    let reason = "signed with another key";
    // The key in the state file helps commands, but no other client.
    assert_doctor_finds(
        &home,
        0,
        &[
            (
                "token",
                "warning",
                &["daemon rejects tokens", reason, "fullon reload"],
            ),
            ("settings", "warning", &["JWT_SECRET_KEY changed in .env"]),
        ],
    );
    // A client that signs with that key gets the same reason.
    let admin = home.state().admin;
    fs::remove_file(StateFile::path(&home.pid_file())).unwrap();
    let outcome = home.run(["--admin-url", &admin, "doctor", "--json"]);
    assert_findings(
        &outcome,
        1,
        &[(
            "admin API",
            "error",
            &["rejected the token", reason, "JWT_SECRET_KEY"],
        )],
    );
    // Without the PID file, nothing is known of the daemon.
    home.set("ADMIN_PORT", port_of(&admin));
    fs::rename(home.pid_file(), home.path().join("moved")).unwrap();
    assert_doctor_finds(
        &home,
        1,
        &[
            ("PID file", "warning", &["another daemon", "--pid-file"]),
            (
                "ADMIN_PORT",
                "error",
                &["in use by another daemon", "--pid-file"],
            ),
            ("log", "warning", &["another daemon (PID ", "LOG_FILE"]),
            (
                "audit trail",
                "warning",
                &["another daemon (PID ", "AUDIT_FILE"],
            ),
        ],
    );
    fs::rename(home.path().join("moved"), home.pid_file()).unwrap();
}

#[test]
fn each_reason_for_refused_token_has_its_advice() {
    let home = Home::new();
    let asking = |status: u16, detail: &str| {
        let problem = json!({ "title": "Refused", "status": status, "detail": detail });
        let server = serve_always(&format!("{status} Refused"), &problem.to_string());
        home.run([
            "--admin-url",
            &format!("http://{server}"),
            "doctor",
            "--json",
        ])
    };
    let no_key: Expected<'_> = (
        "admin API",
        "error",
        &["there is no signing key", "set JWT_SECRET_KEY"],
    );
    assert_findings(&asking(401, ""), 1, &[no_key]);
    home.token("admin:read");
    for (status, detail, next) in [
        (
            401,
            "the token has expired: run `fullon token`",
            "the clocks",
        ),
        (
            401,
            "the token is not valid yet: run `fullon token`",
            "the clocks",
        ),
        (
            401,
            "the token is signed with another key: no",
            "set JWT_SECRET_KEY to the daemon's signing key",
        ),
        (
            403,
            "the Host header does not name this machine: no",
            "--admin-url http://127.0.0.1",
        ),
    ] {
        let (reason, _) = detail.split_once(": ").unwrap();
        let words = [reason, next];
        let outcome = asking(status, detail);
        assert_findings(&outcome, 1, &[("admin API", "error", &words)]);
        // Advice for other clients, or advice that is impossible here, is left out.
        for text in [": no", "fullon restart"] {
            assert!(!outcome.stdout.contains(text), "{outcome:#?}");
        }
    }
}

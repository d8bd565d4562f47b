//! The whole life of a daemon in one short test: `make test-quick` runs it beside the unit tests.

use crate::support::{Home, request};

#[test]
fn daemon_starts_answers_restarts_and_stops() {
    let home = Home::new();
    home.run(["start"]).succeeds();
    let first = home.state().pid;
    let health = || request(&home.public_address(), "GET", "/health", &[], "").status;
    assert_eq!(health(), 200);
    assert_eq!(
        home.call_admin("GET", "/admin/status").json()["phase"],
        "ready"
    );
    home.run(["status"])
        .succeeds()
        .stdout_contains(&["Status:    Running\n"]);

    let second = home.restart();
    assert_ne!(second, u64::from(first));
    assert_eq!(health(), 200);
    let status = home.call_admin("GET", "/admin/status").json();
    assert_eq!(
        (&status["pid"], &status["generation"]),
        (&second.into(), &2.into())
    );

    home.run(["stop"]).succeeds();
    home.wait_until_empty();
    assert!(!home.pid_file().exists());
}

//! The examples run as documented.

use std::path::{Path, PathBuf};

use crate::support::{Home, Outcome, eventually, request};

fn example(name: &str) -> PathBuf {
    let beside = Path::new(env!("CARGO_BIN_EXE_fullon")).parent().unwrap();
    let program = beside.join("examples").join(name);
    assert!(
        program.exists(),
        "`cargo test` builds the examples; `cargo test --test it` does not"
    );
    program
}

#[test]
fn control_example_runs_whole_lifecycle() {
    let program = example("example_daemon_control");
    let home = Home::new();
    let run = |arguments: &[&str]| Outcome::run(home.command(&program).args(arguments));
    run(&["--action", "lifecycle"])
        .succeeds()
        .stdout_contains(&[
            "started: PID",
            "status: Ready",
            "log: ",
            "restarted: PID ",
            "stopped: PID",
            "by Rest",
            "status: not running",
        ]);
    run(&["--action", "start"]).succeeds();
    run(&["--action", "start"])
        .exits(1)
        .stderr_contains(&["already running"]);
    run(&["--action", "logs", "--lines", "1"]).succeeds();
    run(&["--action", "restart"]).succeeds();
    run(&["--action", "status"])
        .succeeds()
        .stdout_contains(&["status: Ready"]);
    run(&["--action", "stop"]).succeeds();
    assert!(home.daemon().is_none());
}

#[test]
fn embedded_application_has_all_daemon_features() {
    let program = example("embed");
    let home = Home::new();
    let run = |arguments: &[&str]| Outcome::run(home.command(&program).args(arguments));
    run(&["start"]).succeeds();
    let hello = || request(&home.public_address(), "GET", "/shop/hello/you", &[], "");
    let answer = hello();
    assert_eq!((answer.status, answer.body.as_str()), (200, "Hello, you!"));
    // An application decides itself about caches.
    assert_eq!(answer.header("cache-control"), None);
    request(&home.public_address(), "GET", "/shop/nothing", &[], "")
        .assert_problem(404, "/shop/nothing");
    let wrong_method = request(&home.public_address(), "PUT", "/shop/hello/you", &[], "");
    wrong_method.assert_problem(405, "Allow");
    assert_eq!(wrong_method.header("allow"), Some("GET, HEAD"));
    let pid = home.daemon().unwrap().pid();
    run(&["restart"]).succeeds();
    assert_ne!(home.daemon().unwrap().pid(), pid);
    assert_eq!(hello().status, 200);
    eventually("the event of the application is logged", || {
        home.log().contains("embed: greeted customer=\"you\"")
    });
    let metrics = home.call_admin("GET", "/admin/metrics").body;
    assert!(
        metrics.contains("{method=\"GET\",route=\"/shop/*\",server=\"public\",status=\"2xx\"} 2"),
        "{metrics}"
    );
    run(&["stop"]).succeeds();

    let source = include_str!("../../examples/embed.rs");
    assert!(source.lines().count() < 40);
}

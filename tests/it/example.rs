//! `example_daemon_control` does what its name says.

use std::path::Path;

use crate::support::{Home, Outcome};

#[test]
fn it_goes_through_a_whole_life() {
    let program = Path::new(env!("CARGO_BIN_EXE_fullon"))
        .parent()
        .unwrap()
        .join("examples/example_daemon_control");
    assert!(
        program.exists(),
        "`cargo test` builds the examples; `cargo test --test it` does not"
    );
    let home = Home::new();
    let run = |arguments: &[&str]| Outcome::of(home.command(&program).args(arguments));
    run(&["--action", "lifecycle"]).succeeds().prints(&[
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
        .says(&["already running"]);
    run(&["--action", "logs", "--lines", "1"]).succeeds();
    run(&["--action", "restart"]).succeeds();
    run(&["--action", "status"])
        .succeeds()
        .prints(&["status: Ready"]);
    run(&["--action", "stop"]).succeeds();
    assert!(home.daemon().is_none());
}

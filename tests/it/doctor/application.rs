//! The application: its program, its address, its workers.

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{assert_doctor_finds, set_mode};
use crate::support::{Home, eventually};

const SERVE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/app_command/serve.py");

/// Writes a script into the home.
fn write_script(home: &Home, name: &str, first_line: &str, mode: u32) -> PathBuf {
    let path = home.path().join(name);
    fs::write(&path, format!("{first_line}\n")).unwrap();
    set_mode(&path, mode);
    path
}

#[test]
fn program_that_cannot_be_run_is_an_error() {
    let home = Home::new();
    write_script(&home, "plain", "#!/bin/sh", 0o600);
    write_script(&home, "moved", "#!/nowhere/venv/bin/python3 -u", 0o700);
    for (command, message, hint) in [
        (
            "nowhere {fd}",
            "nowhere is in no directory of PATH",
            "install it",
        ),
        ("./missing {fd}", "./missing does not exist", "relative to"),
        (
            "./plain {fd}",
            "./plain is not executable",
            "chmod +x ./plain",
        ),
        ("/usr {fd}", "/usr is a directory", "the path of a program"),
        (
            "./moved {fd}",
            "a script of /nowhere/venv/bin/python3",
            "virtual environment",
        ),
    ] {
        home.write_env(&format!("APP_COMMAND={command}\n"));
        assert_doctor_finds(&home, 1, &[("application", "error", &[message, hint])]);
    }
}

#[test]
fn missing_directory_is_an_invalid_setting() {
    let home = Home::new();
    home.write_env("APP_COMMAND=sh {fd}\nAPP_DIRECTORY=missing\n");
    let words = ["APP_DIRECTORY: `missing` is not a directory", ".env"];
    assert_doctor_finds(&home, 2, &[("settings", "error", &words)]);
}

#[test]
fn known_program_without_placeholder_is_a_warning() {
    let home = Home::new();
    for (program, hint) in [
        ("uvicorn", "add `--fd {fd}`"),
        ("gunicorn", "add `--bind fd://{fd}`"),
        ("hypercorn", "add `--bind fd://{fd}`"),
        ("node", "process.env.PORT"),
    ] {
        write_script(&home, program, "#!/bin/sh", 0o700);
        for command in [
            format!("./{program} app"),
            format!("sh -c 'cd x && exec {program} app'"),
        ] {
            home.write_env(&format!("APP_COMMAND={command}\n"));
            let words = ["has no placeholder", hint];
            assert_doctor_finds(&home, 0, &[("application", "warning", &words)]);
        }
        home.write_env(&format!("APP_COMMAND=./{program} {{fd}}\n"));
        assert_doctor_finds(&home, 0, &[]);
    }
    // Other programs may know PORT.
    home.write_env("APP_COMMAND=sh app\n");
    assert_doctor_finds(&home, 0, &[]);
}

#[test]
fn program_that_listens_on_port_is_no_warning() {
    let home = Home::new();
    write_script(
        &home,
        "node",
        "#!/bin/sh\nexec python3 -m http.server -b $HOST $PORT",
        0o700,
    );
    home.write_env("APP_COMMAND=./node\n");
    home.run(["start"]).succeeds();
    assert_doctor_finds(&home, 0, &[]);
}

#[test]
fn workers_that_fail_are_reported_with_the_reason() {
    let home = Home::new();
    let script = home.path().join("serve.py");
    fs::copy(SERVE, &script).unwrap();
    home.write_env("APP_COMMAND=python3 serve.py {fd}\n");
    home.run(["start"]).succeeds();
    fs::write(&script, "raise SystemExit(3)\n").unwrap();
    let status = home.call_admin("GET", "/admin/status").json();
    let worker = status["workers"][0]["pid"].as_i64().unwrap();
    kill(
        Pid::from_raw(i32::try_from(worker).unwrap()),
        Signal::SIGKILL,
    )
    .unwrap();
    eventually("the next worker has failed", || {
        let doctor = home.run(["doctor", "--json"]);
        doctor.code == 1 && doctor.stdout.contains("no worker is ready: worker 1 ")
    });
}

#[test]
fn directory_of_sockets_must_be_one() {
    let home = Home::new();
    home.write_env("APP_COMMAND=sh {fd}\n");
    fs::write(home.path().join(".fullon_master_api.pid.d"), "").unwrap();
    let words = [".pid.d is not a directory", "remove it"];
    assert_doctor_finds(&home, 1, &[("application", "error", &words)]);
}

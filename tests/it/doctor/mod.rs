//! `fullon doctor`: real faults are reported with advice, and there are no false alarms.

mod application;
mod daemon_api;
mod instance_files;
mod ports_and_log;
mod refused_token;
mod settings;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::{Home, Outcome, install_program};

/// Subject, severity, and words of what was seen. The last of several words belongs to the advice.
type Expected<'a> = (&'a str, &'a str, &'a [&'a str]);

/// The findings that are not `ok` are exactly these, and each has advice.
#[track_caller]
fn assert_findings(outcome: &Outcome, code: i32, expected: &[Expected<'_>]) {
    assert_eq!(outcome.code, code, "{outcome:#?}");
    let mut findings = outcome.json()["findings"].as_array().unwrap().clone();
    // Root may run the tests.
    findings.retain(|finding| finding["severity"] != "ok" && finding["subject"] != "user");
    for (subject, severity, words) in expected {
        let (next, seen) = words.split_last().unwrap();
        let (next, seen) = match seen {
            [] => ("", *words),
            _ => (*next, seen),
        };
        let index = findings.iter().position(|finding| {
            finding["subject"] == *subject
                && finding["severity"] == *severity
                && seen
                    .iter()
                    .all(|word| field_text(finding, "message").contains(word))
                && field_text(finding, "hint").contains(next)
        });
        match index {
            Some(index) => drop(findings.remove(index)),
            None => panic!("no {severity} {subject} {words:?}: {findings:#?}"),
        }
    }
    assert!(findings.is_empty(), "unexpected findings: {findings:#?}");
}

#[track_caller]
fn field_text<'a>(finding: &'a Value, field: &str) -> &'a str {
    finding[field]
        .as_str()
        .unwrap_or_else(|| panic!("no {field}: {finding}"))
}

#[track_caller]
fn assert_doctor_finds(home: &Home, code: i32, expected: &[Expected<'_>]) {
    assert_findings(&home.run(["doctor", "--json"]), code, expected);
}

/// The subjects of all findings.
fn subjects(outcome: &Outcome) -> Vec<String> {
    let json = outcome.json();
    let findings = json["findings"].as_array().unwrap().iter();
    findings
        .map(|finding| field_text(finding, "subject").to_owned())
        .filter(|subject| subject != "user")
        .collect()
}

/// All files of the home with size and time of change.
fn list_files(home: &Home) -> Vec<(PathBuf, u64, i64, i64)> {
    let mut files: Vec<_> = fs::read_dir(home.path())
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            (
                path,
                metadata.size(),
                metadata.mtime(),
                metadata.mtime_nsec(),
            )
        })
        .collect();
    files.sort();
    files
}

/// The port of an address.
fn port_of(address: &str) -> &str {
    address.rsplit_once(':').unwrap().1
}

/// Sets `ADMIN_PORT` to the port of the running daemon.
fn fix_admin_port(home: &mut Home) {
    let admin = home.admin_address();
    home.set("ADMIN_PORT", port_of(&admin));
}

pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Changes the owner to user `nobody`.
pub fn give_to_nobody(paths: &[&Path]) {
    for path in paths {
        std::os::unix::fs::lchown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

const NOBODY: u32 = 65534;

/// A copy of the program that every user may run.
fn program_for_all(home: &Home) -> PathBuf {
    let program = home.path().join("fullon");
    if !program.exists() {
        install_program(Path::new(env!("CARGO_BIN_EXE_fullon")), &program);
    }
    program
}

/// A command run by user `nobody`.
pub fn as_nobody(home: &Home, arguments: &[&str]) -> Command {
    let nobody = NOBODY.to_string();
    let mut command = home.command("setpriv");
    command
        .args(["--reuid", &nobody, "--regid", &nobody, "--clear-groups"])
        .arg(program_for_all(home))
        .args(arguments);
    command
}

fn assert_doctor_of_nobody_finds(home: &Home, code: i32, expected: &[Expected<'_>]) {
    let outcome = Outcome::run(&mut as_nobody(home, &["doctor", "--json"]));
    assert_findings(&outcome, code, expected);
}

/// A home that belongs to user `nobody`.
pub fn home_of_nobody() -> Home {
    let home = Home::new();
    give_to_nobody(&[home.path()]);
    home
}

#[test]
fn no_daemon_is_healthy_and_nothing_is_changed() {
    let home = Home::new();
    let outcome = home.run(["doctor", "--json"]);
    assert_findings(&outcome, 0, &[]);
    assert_eq!(
        subjects(&outcome),
        [
            "settings",
            ".env",
            "signing key",
            "PID file",
            "PORT",
            "ADMIN_PORT",
            "log",
            "disk"
        ]
    );
    let json = outcome.json();
    assert_eq!(
        (&json["healthy"], &json["configuration_is_valid"]),
        (&true.into(), &true.into())
    );
    home.run(["doctor"]).succeeds().stdout_contains(&[
        "the daemon is not running",
        "-> fullon start\n",
        "no errors\n",
    ]);
    assert_eq!(list_files(&home), []);
}

#[test]
fn running_daemon_is_healthy_with_one_line_per_check() {
    let home = Home::started();
    let before = list_files(&home);
    let outcome = home.run(["doctor", "--json"]);
    assert_findings(&outcome, 0, &[]);
    let subjects = subjects(&outcome);
    assert_eq!(
        subjects,
        [
            "settings",
            ".env",
            "signing key",
            "PID file",
            "state file",
            "admin API",
            "token",
            "public API",
            "restart",
            "log",
            "disk",
            "audit trail"
        ]
    );
    let outcome = home.run(["doctor"]).succeeds();
    assert_eq!(
        (outcome.stderr.as_str(), outcome.stdout.contains('\x1b')),
        ("", false)
    );
    let mut lines: Vec<_> = outcome.stdout.lines().collect();
    lines.retain(|line| !line.starts_with("warning  user"));
    assert_eq!(lines.len(), subjects.len() + 1, "{outcome:#?}");
    for (line, subject) in lines.iter().zip(&subjects) {
        assert!(line.starts_with(&format!("ok       {subject}")), "{line}");
    }
    let summary = if nix::unistd::geteuid().is_root() {
        "13 findings: no errors, 1 warning"
    } else {
        "12 findings: no errors"
    };
    assert_eq!(*lines.last().unwrap(), summary);
    // The daemon logged the requests of doctor.
    let without_log = |files: Vec<(PathBuf, u64, i64, i64)>| {
        let is_other = |file: &(PathBuf, u64, i64, i64)| file.0 != home.log_file();
        files.into_iter().filter(is_other).collect::<Vec<_>>()
    };
    assert_eq!(without_log(list_files(&home)), without_log(before));
}

fn random_key() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

#[test]
fn doctor_is_in_help_manual_and_completions() {
    let home = Home::new();
    let codes = "doctor: 0 no errors";
    home.run(["--help"])
        .succeeds()
        .stdout_contains(&["doctor", codes]);
    home.run(["man"])
        .succeeds()
        .stdout_contains(&["fullon doctor", codes]);
    home.run(["doctor", "--help"])
        .succeeds()
        .stdout_contains(&[codes]);
    home.run(["completions", "bash"])
        .succeeds()
        .stdout_contains(&["doctor"]);
}

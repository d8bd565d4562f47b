//! A machine of its own for the commands of a page.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command as Process;

use super::page::Command;
use crate::support::{Outcome, tools_directory};

/// Longest time for all commands of a page, in seconds.
const LIMIT: &str = "120";
/// User and group of `me`.
const USER: &str = "1000";

/// Runs the commands in one bash session. Returns the lines that each printed.
pub fn run(commands: &[Command]) -> Vec<Vec<String>> {
    let directory = tempfile::tempdir().unwrap();
    Outcome::run(Process::new("chmod").arg("755").arg(directory.path())).succeeds();
    let output = directory.path().join("output");
    fs::write(&output, "").unwrap();
    let script = directory.path().join("session");
    fs::write(&script, session(directory.path(), commands)).unwrap();
    Outcome::run(
        Process::new("timeout")
            .args([
                "--kill-after=5",
                LIMIT,
                "unshare",
                "--net",
                "--mount",
                "--uts",
            ])
            .args(["--pid", "--fork", "--kill-child", "--mount-proc", "sh"])
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/it/documents/sandbox.sh"
            ))
            .args([
                env!("CARGO_BIN_EXE_fullon"),
                env!("CARGO_MANIFEST_DIR"),
                USER,
            ])
            .args([directory.path(), &tools_directory()])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap()),
    )
    .succeeds();
    let printed = fs::read_to_string(&output).unwrap();
    let outputs: Vec<Vec<String>> = printed
        .split(&format!("{}\n", marker(directory.path())))
        .skip(1)
        .map(|output| output.lines().map(str::to_owned).collect())
        .collect();
    assert_eq!(
        outputs.len(),
        commands.len(),
        "the session ended early: {printed}"
    );
    outputs
}

/// A line that no command prints.
fn marker(directory: &Path) -> String {
    format!("next command in {}", directory.display())
}

/// The script of the session: each command in this shell, so that variables and directories stay.
fn session(directory: &Path, commands: &[Command]) -> String {
    let mut script = String::new();
    for (number, command) in commands.iter().enumerate() {
        let file = directory.join(format!("command-{number}"));
        fs::write(&file, format!("{}\n", command.text)).unwrap();
        let (marker, file) = (marker(directory), file.display());
        writeln!(script, "echo '{marker}'\n. {file} </dev/null").unwrap();
    }
    script
}

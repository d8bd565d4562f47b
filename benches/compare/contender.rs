//! What is measured: commands, and a place of their own to run in.

use std::ffi::OsString;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

/// Where the output of a contender's commands is.
const OUTPUT: &str = "output-of-commands";
/// How much of it a failure quotes.
const QUOTED_LINES: usize = 8;

/// Which figures a contender has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measured {
    /// Start, stop, status, idle.
    Lifecycle,
    /// Throughput. Its start command stays in the foreground.
    Load,
    /// All.
    Both,
}

impl Measured {
    pub fn has_lifecycle(self) -> bool {
        self != Self::Load
    }

    pub fn has_load(self) -> bool {
        self != Self::Lifecycle
    }
}

/// A program with the arguments for one verb.
pub type Arguments = Vec<OsString>;

/// One column of the table.
pub struct Contender {
    pub name: &'static str,
    pub measured: Measured,
    /// Answers `GET /health` on 127.0.0.1.
    pub port: u16,
    /// Where it is administered, if that is done over HTTP.
    pub admin_port: u16,
    /// Home and working directory of all its processes, which are known by it.
    pub directory: TempDir,
    /// Beside `PATH` and `HOME`; nothing else is handed down.
    pub environment: Vec<(&'static str, OsString)>,
    pub start: Arguments,
    pub stop: Option<Arguments>,
    pub status: Option<Arguments>,
}

impl Contender {
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A command of this contender, in its own directory and environment. Its output goes to a file, because a pipe
    /// would stay open in the daemon.
    pub fn command(&self, arguments: &[OsString]) -> Result<Command> {
        let (program, rest) = arguments.split_first().context("an empty command")?;
        let output = File::options()
            .create(true)
            .append(true)
            .open(self.directory().join(OUTPUT))?;
        let mut command = Command::new(program);
        command
            .args(rest)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.directory())
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(self.directory())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        Ok(command)
    }

    /// What its commands said last, for an error message.
    pub fn said(&self) -> String {
        let text = std::fs::read(self.directory().join(OUTPUT)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(QUOTED_LINES)..];
        format!("its commands said:\n{}", last.join("\n"))
    }
}

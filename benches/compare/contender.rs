//! A program that is measured: its commands, and the directory that it works in.

use std::ffi::OsString;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

const OUTPUT_FILE: &str = "output-of-commands";
/// Lines of output that an error message quotes.
const QUOTED_LINES: usize = 8;

/// The kinds of figures that a contender has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measurements {
    /// Start, stop, status and idle usage.
    Lifecycle,
    /// Throughput. The start command stays in the foreground.
    Load,
    Both,
}

impl Measurements {
    pub fn has_lifecycle(self) -> bool {
        self != Self::Load
    }

    pub fn has_load(self) -> bool {
        self != Self::Lifecycle
    }
}

/// A program and its arguments.
pub type CommandLine = Vec<OsString>;

/// One column of the table.
pub struct Contender {
    pub name: &'static str,
    pub measurements: Measurements,
    /// Answers `GET /health` on 127.0.0.1.
    pub port: u16,
    /// Port of the admin API, if there is one.
    pub admin_port: u16,
    /// Home and working directory of all processes, which are found by it.
    pub directory: TempDir,
    /// In addition to `PATH` and `HOME`. Nothing else is inherited.
    pub environment: Vec<(&'static str, OsString)>,
    pub start: CommandLine,
    pub stop: Option<CommandLine>,
    pub status: Option<CommandLine>,
}

impl Contender {
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A command of this contender in its directory and environment. The output goes to a file,
    /// because the daemon would keep a pipe open.
    pub fn command(&self, arguments: &[OsString]) -> Result<Command> {
        let (program, rest) = arguments.split_first().context("an empty command")?;
        let output = File::options()
            .create(true)
            .append(true)
            .open(self.directory().join(OUTPUT_FILE))?;
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

    /// The last lines of its commands' output, for an error message.
    pub fn output_tail(&self) -> String {
        let text = std::fs::read(self.directory().join(OUTPUT_FILE)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(QUOTED_LINES)..];
        format!("its commands said:\n{}", last.join("\n"))
    }
}

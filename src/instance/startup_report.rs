//! The report of a start-up: one line of JSON, on the pipe that the starting process made the
//! stdout of the new one, or on the socket of a handoff. There is no timeout; when the new process
//! dies, the channel is closed.

use std::fs::File;
use std::io::{self, BufRead, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};

use serde::{Deserialize, Serialize};

/// The report of a new process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartupReport {
    /// It serves.
    Ready {
        /// Its PID.
        pid: u32,
        /// Base URL of its public API.
        server: String,
        /// Base URL of its admin API.
        #[serde(default)]
        admin: String,
    },
    /// It could not start.
    Failed {
        /// The reason, for people.
        message: String,
        /// The exit code for the starting process.
        exit_code: u8,
    },
}

impl StartupReport {
    /// Reads a report; `None` when the new process died without one.
    ///
    /// # Errors
    ///
    /// The channel cannot be read, or the line is not a report.
    pub fn read(channel: impl io::Read) -> io::Result<Option<Self>> {
        let mut line = String::new();
        io::BufReader::new(channel).read_line(&mut line)?;
        if line.is_empty() {
            return Ok(None);
        }
        Self::parse(&line).map(Some)
    }

    /// Parses a line.
    ///
    /// # Errors
    ///
    /// The line is not a report.
    pub fn parse(line: &str) -> io::Result<Self> {
        Ok(serde_json::from_str(line)?)
    }
}

/// The new process's end of the channel.
#[derive(Debug)]
pub struct StartupReporter(File);

impl StartupReporter {
    /// Takes a channel.
    #[must_use]
    pub fn new(channel: OwnedFd) -> Self {
        Self(channel.into())
    }

    /// Duplicates stdout, which may be replaced afterwards.
    ///
    /// # Errors
    ///
    /// There is no stdout.
    pub fn from_stdout() -> io::Result<Self> {
        Ok(Self::new(io::stdout().as_fd().try_clone_to_owned()?))
    }

    /// Sends the report and closes the channel.
    pub fn send(mut self, report: &StartupReport) {
        // The starting process may have exited. Then nobody waits for the report.
        let _ = serde_json::to_writer(&self.0, report);
        let _ = self.0.write_all(b"\n");
    }
}

//! How a start-up is reported: one JSON line on the pipe that the starting process gave the new one as its
//! stdout, or on the socket on which a daemon hands over. No timer is involved; a process that dies closes it.

use std::fs::File;
use std::io::{self, BufRead, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};

use serde::{Deserialize, Serialize};

/// What the new process says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartupReport {
    /// It answers requests.
    Ready {
        /// Its process id.
        pid: u32,
        /// Base URL of its public API.
        server: String,
        /// Base URL of its admin API.
        #[serde(default)]
        admin: String,
    },
    /// It could not start.
    Failed {
        /// Why, for people.
        message: String,
        /// What the starting process should exit with.
        exit_code: u8,
    },
}

impl StartupReport {
    /// The announcement on the pipe; `None` when the other end died without one.
    ///
    /// # Errors
    ///
    /// The pipe cannot be read or holds something else.
    pub fn read(pipe: impl io::Read) -> io::Result<Option<Self>> {
        let mut line = String::new();
        io::BufReader::new(pipe).read_line(&mut line)?;
        if line.is_empty() {
            return Ok(None);
        }
        Self::parse(&line).map(Some)
    }

    /// The announcement that the line is.
    ///
    /// # Errors
    ///
    /// It is something else.
    pub fn parse(line: &str) -> io::Result<Self> {
        Ok(serde_json::from_str(line)?)
    }
}

/// The new process's end of the pipe.
#[derive(Debug)]
pub struct StartupReporter(File);

impl StartupReporter {
    /// Takes the pipe that is this process's stdout, which may be replaced afterwards.
    ///
    /// # Errors
    ///
    /// There is no stdout.
    pub fn from_stdout() -> io::Result<Self> {
        Ok(Self(io::stdout().as_fd().try_clone_to_owned()?.into()))
    }

    /// Takes the end of a socket on which somebody waits.
    #[must_use]
    pub fn new(channel: OwnedFd) -> Self {
        Self(channel.into())
    }

    /// Reports, and closes the pipe.
    pub fn send(mut self, announcement: &StartupReport) {
        // The starting process may have been ended meanwhile; then nobody waits for the answer.
        let _ = serde_json::to_writer(&self.0, announcement);
        let _ = self.0.write_all(b"\n");
    }
}

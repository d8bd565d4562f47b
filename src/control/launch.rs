//! Starts the daemon: runs the program again in a session of its own, and waits on a pipe for what it says.

use std::io::{self, Read as _};
use std::path::PathBuf;
use std::process::Stdio;

use thiserror::Error;

use crate::instance::{Announcement, Launch};

/// A daemon that answers requests.
#[derive(Debug, Clone)]
pub struct Started {
    /// Its process id.
    pub pid: u32,
    /// Base URL of its public API.
    pub server: String,
}

/// The daemon did not start.
#[derive(Debug, Error)]
pub enum LaunchError {
    /// The program cannot be run.
    #[error("{program} cannot be run: {source}")]
    Run {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It said why.
    #[error("{message}")]
    Failed {
        /// What it said.
        message: String,
        /// 1, or 2 for an invalid configuration.
        exit_code: u8,
    },
    /// It ended without a word of its own.
    #[error("the daemon ended while starting ({status}){output}")]
    Died {
        /// How it ended.
        status: String,
        /// What it wrote to stderr.
        output: String,
    },
}

impl Launch {
    /// Starts the daemon and returns when it answers requests.
    ///
    /// # Errors
    ///
    /// Why it did not start. Nothing is left behind then.
    pub fn start(&self) -> Result<Started, LaunchError> {
        let run = |source| LaunchError::Run {
            program: self.program.clone(),
            source,
        };
        let mut child = self
            .command(&["--background"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(run)?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let announcement = match stdout {
            Some(pipe) => Announcement::read(pipe).map_err(run)?,
            None => None,
        };
        match announcement {
            Some(Announcement::Ready { pid, server, .. }) => Ok(Started { pid, server }),
            Some(Announcement::Failed { message, exit_code }) => {
                // Until it is gone, its lock is not free. Where our parent ignores SIGCHLD, waiting says ECHILD once it is.
                let _ = child.wait();
                Err(LaunchError::Failed { message, exit_code })
            }
            None => {
                let mut text = String::new();
                if let Some(mut stderr) = stderr {
                    // What cannot be read is missing from the message and nowhere else.
                    let _ = stderr.read_to_string(&mut text);
                }
                let status = child
                    .wait()
                    .map_or_else(|error| error.to_string(), |status| status.to_string());
                let output = match text.trim() {
                    "" => String::new(),
                    text => format!(": {text}"),
                };
                Err(LaunchError::Died { status, output })
            }
        }
    }
}

//! Starts the daemon: runs the program again in a session of its own, and waits on a pipe for what it says.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use thiserror::Error;

use crate::config::Flags;
use crate::instance::Announcement;

/// What to start, and as if from where.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The program.
    pub program: PathBuf,
    /// Where `.env` and relative paths are seen from.
    pub directory: PathBuf,
    /// The file of `--env-file`.
    pub env_file: Option<PathBuf>,
    /// Settings given by flags.
    pub flags: Flags,
    /// Environment variables beside those of this process.
    pub environment: BTreeMap<String, OsString>,
}

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
        let mut child = self.command().spawn().map_err(run)?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let announcement = match stdout {
            Some(pipe) => Announcement::read(pipe).map_err(run)?,
            None => None,
        };
        match announcement {
            Some(Announcement::Ready { pid, server }) => Ok(Started { pid, server }),
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

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(file) = &self.env_file {
            command.arg("--env-file").arg(file);
        }
        for (name, value) in &self.flags {
            command.arg(format!("--{}={value}", crate::config::flag(name)));
        }
        command
            .args(["run", "--background"])
            .envs(&self.environment)
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// The program that is running, as it is found on disk now.
    ///
    /// # Errors
    ///
    /// The system does not tell.
    pub fn this_program() -> io::Result<PathBuf> {
        let path = std::env::current_exe()?;
        // What Linux says once the file was replaced.
        let text = path.to_string_lossy();
        Ok(match text.strip_suffix(" (deleted)") {
            Some(there) if !path.exists() => Path::new(there).to_owned(),
            _ => path,
        })
    }
}

//! Starts the daemon: runs the program again in a session of its own, and waits on a pipe for what it says.

use std::io::{self, Read as _};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdout, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use thiserror::Error;

use crate::api::DEFAULT_RESTART_TIMEOUT;
use crate::instance::{Launch, Process, StartupReport};

/// How long a daemon that hangs may take to end before it is killed.
const TERMINATE_TIMEOUT: Duration = Duration::from_secs(2);

/// A daemon that answers requests.
#[derive(Debug, Clone)]
pub struct StartedDaemon {
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
    Spawn {
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
    ExitedEarly {
        /// How it ended.
        status: String,
        /// What it wrote to stderr.
        output: String,
    },
    /// It said nothing in time, and was ended.
    #[error("the daemon said nothing for {0:?} while starting, and was ended{1}")]
    TimedOut(Duration, String),
}

impl Launch {
    /// Starts the daemon and returns when it answers requests.
    ///
    /// # Errors
    ///
    /// Why it did not start. Nothing is left behind then.
    pub fn start(&self) -> Result<StartedDaemon, LaunchError> {
        self.start_within(DEFAULT_RESTART_TIMEOUT)
    }

    fn start_within(&self, timeout: Duration) -> Result<StartedDaemon, LaunchError> {
        let run = |source| LaunchError::Spawn {
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
            Some(pipe) if wait_readable(&pipe, timeout) => {
                StartupReport::read(pipe).map_err(run)?
            }
            Some(_) => {
                terminate(&mut child);
                return Err(LaunchError::TimedOut(timeout, read_stderr(stderr)));
            }
            None => None,
        };
        match announcement {
            Some(StartupReport::Ready { pid, server, .. }) => Ok(StartedDaemon { pid, server }),
            Some(StartupReport::Failed { message, exit_code }) => {
                // Until it is gone, its lock is not free. Where our parent ignores SIGCHLD, waiting says ECHILD once it is.
                let _ = child.wait();
                Err(LaunchError::Failed { message, exit_code })
            }
            None => {
                let output = read_stderr(stderr);
                let status = child
                    .wait()
                    .map_or_else(|error| error.to_string(), |status| status.to_string());
                Err(LaunchError::ExitedEarly { status, output })
            }
        }
    }
}

/// Whether there is something to read within this time: a word, or the end.
fn wait_readable(pipe: &ChildStdout, timeout: Duration) -> bool {
    let timeout = Timespec::try_from(timeout).ok();
    let mut asked = [PollFd::new(pipe, PollFlags::IN)];
    !matches!(poll(&mut asked, timeout.as_ref()), Ok(0))
}

/// Ends a daemon that hangs.
fn terminate(child: &mut Child) {
    let process = Process::open(child.id());
    let has_ended = process.is_some_and(|process| {
        // It may be gone already.
        let _ = process.terminate();
        process.wait_for_exit(TERMINATE_TIMEOUT)
    });
    if !has_ended {
        let _ = child.kill();
    }
    let _ = child.wait();
}

/// What it wrote to stderr before it ended.
fn read_stderr(stderr: Option<ChildStderr>) -> String {
    let mut text = String::new();
    if let Some(mut stderr) = stderr {
        // What cannot be read is missing from the message and nowhere else.
        let _ = stderr.read_to_string(&mut text);
    }
    match text.trim() {
        "" => String::new(),
        text => format!(": {text}"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::OpenOptionsExt as _;
    use std::{fs, io::Write as _};

    use super::*;
    use crate::config::SettingsLocation;

    #[test]
    fn child_that_reports_nothing_is_terminated() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("hangs");
        let pid = directory.path().join("pid");
        let script = format!(
            "#!/bin/sh\necho hung >&2\necho $$ > {}\nexec sleep 60 2>&1\n",
            pid.display()
        );
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o700)
            .open(&program)
            .unwrap();
        file.write_all(script.as_bytes()).unwrap();
        drop(file);
        let launch = Launch {
            program,
            settings_location: SettingsLocation {
                directory: directory.path().to_owned(),
                env_file: None,
                flags: Vec::new().into_iter().collect(),
            },
            environment: std::collections::BTreeMap::new(),
        };
        let timeout = Duration::from_millis(500);
        let error = launch.start_within(timeout).unwrap_err();
        assert!(matches!(error, LaunchError::TimedOut(..)), "{error}");
        assert!(error.to_string().contains("hung"), "{error}");
        let pid = fs::read_to_string(pid).unwrap().trim().parse().unwrap();
        assert!(Process::open(pid).is_none_or(|process| process.has_exited()));
    }
}

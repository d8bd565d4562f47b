//! Starts the daemon: runs this program again in its own session, and reads its startup report from
//! a pipe.

use std::io::{self, Read as _};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdout, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use thiserror::Error;

use crate::api::start_timeout;
use crate::config::Settings;
use crate::instance::{Launch, StartupReport};
use crate::sys::Process;

/// How long a child that hangs may take to exit after SIGTERM before it is killed.
const TERMINATE_TIMEOUT: Duration = Duration::from_secs(2);

/// A daemon that has started.
#[derive(Debug, Clone)]
pub struct StartedDaemon {
    pub pid: u32,
    /// Base URL of its public API.
    pub server: String,
}

/// The daemon did not start.
#[derive(Debug, Error)]
pub enum LaunchError {
    /// The program cannot be run.
    #[error("cannot run {program}: {source}")]
    Spawn { program: PathBuf, source: io::Error },
    /// The daemon reported a failure.
    #[error("{message}")]
    Failed {
        message: String,
        /// 1, or 2 for an invalid configuration.
        exit_code: u8,
    },
    /// The daemon exited without a report.
    #[error("the daemon exited during start-up ({status}){output}")]
    ExitedEarly { status: String, output: String },
    /// The daemon reported nothing in time, and was terminated.
    #[error("the daemon did not become ready within {0:?} and was terminated{1}")]
    TimedOut(Duration, String),
}

impl Launch {
    /// Starts the daemon and waits until it serves requests.
    ///
    /// # Errors
    ///
    /// Why it did not start. No process and no file are left behind.
    pub fn start(&self) -> Result<StartedDaemon, LaunchError> {
        // Invalid settings are reported by the daemon.
        let sources = self
            .settings_location
            .read_sources_with_fallback(&self.environment);
        let app = Settings::load(&sources).ok().and_then(|it| it.app);
        self.start_within(start_timeout(app.as_ref()))
    }

    fn start_within(&self, timeout: Duration) -> Result<StartedDaemon, LaunchError> {
        let spawn_error = |source| LaunchError::Spawn {
            program: self.program.clone(),
            source,
        };
        let mut child = self
            .command(&["--background"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(spawn_error)?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let report = match stdout {
            Some(pipe) if wait_readable(&pipe, timeout) => {
                StartupReport::read(pipe).map_err(spawn_error)?
            }
            Some(_) => {
                terminate(&mut child);
                return Err(LaunchError::TimedOut(timeout, read_stderr(stderr)));
            }
            None => None,
        };
        match report {
            Some(StartupReport::Ready { pid, server, .. }) => Ok(StartedDaemon { pid, server }),
            Some(StartupReport::Failed { message, exit_code }) => {
                // The child holds its lock until it has exited. If our parent ignores SIGCHLD,
                // `wait` fails with ECHILD, but only after the exit.
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

/// Whether data, or the end of the pipe, arrives within `timeout`.
fn wait_readable(pipe: &ChildStdout, timeout: Duration) -> bool {
    let timeout = Timespec::try_from(timeout).ok();
    let mut fds = [PollFd::new(pipe, PollFlags::IN)];
    !matches!(poll(&mut fds, timeout.as_ref()), Ok(0))
}

/// Terminates a child that hangs, and kills it if that takes too long.
fn terminate(child: &mut Child) {
    let process = Process::open(child.id());
    let has_exited = process.is_some_and(|process| {
        // Fails if the child has exited already.
        let _ = process.terminate();
        process.wait_for_exit(TERMINATE_TIMEOUT)
    });
    if !has_exited {
        let _ = child.kill();
    }
    let _ = child.wait();
}

/// The child's stderr as the end of an error message.
fn read_stderr(stderr: Option<ChildStderr>) -> String {
    let mut text = String::new();
    if let Some(mut stderr) = stderr {
        // A read error only shortens the message.
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

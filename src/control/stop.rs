//! Stops the daemon and waits until its process has exited.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use thiserror::Error;

use super::signal::{NotPermitted, check_delivery};
use super::target::{DaemonControl, Target};
use crate::api::{StopRequest, StopResult};
use crate::client::{AdminClient, ClientError};
use crate::instance::{
    ExitCause, ExitRecord, LockHolder, PidFile, PidFileError, StateFile, holds_pid_file_lock,
};
use crate::sys::{Process, find_listener};

/// How long a process may take to exit after SIGTERM, unless its state file says otherwise.
const TERM_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a killed process may take to exit. Only a hung disk takes longer.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a daemon may take to exit beyond the deadline that it promised.
const EXIT_MARGIN: Duration = Duration::from_secs(5);
/// How often a remote daemon is probed for whether it still answers.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The outcome of a stop.
#[derive(Debug)]
pub enum StopOutcome {
    /// The daemon was stopped.
    Stopped { pid: u32, method: StopMethod },
    /// No daemon was running.
    NotRunning,
    /// The daemon had died before. Its PID file may record this PID.
    Dead(Option<u32>),
}

/// How a daemon was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopMethod {
    /// Through the admin API.
    Rest,
    /// Through the admin API, which no longer answers. Whether the process has exited is not
    /// visible from here.
    Unconfirmed,
    /// By SIGTERM.
    Terminated,
    /// By SIGKILL, after it did not exit.
    Killed,
}

/// The daemon could not be stopped.
#[derive(Debug, Error)]
pub enum StopError {
    /// The PID file cannot be inspected.
    #[error(transparent)]
    PidFile(#[from] PidFileError),
    /// The admin API failed, and there is no process to signal.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The admin API failed, and the process may not be signalled.
    #[error(transparent)]
    NotPermitted(#[from] NotPermitted),
    /// The admin API failed, and this user cannot inspect the process.
    #[error("{0}; this user cannot inspect the process that holds the PID file: {1}")]
    Hidden(ClientError, &'static str),
    /// The process did not exit after SIGKILL.
    #[error("process {0} still exists after SIGKILL: it probably waits for a device; see `dmesg`")]
    Unkillable(u32),
    /// The daemon accepted the stop but still runs.
    #[error(
        "the daemon at {0} accepted the stop but did not exit by its deadline: see `fullon logs --no-follow`"
    )]
    StillRunning(String),
}

impl DaemonControl {
    /// Stops the daemon. `notice` receives a message when a signal is used instead of the admin
    /// API.
    ///
    /// # Errors
    ///
    /// Why the daemon still runs.
    pub async fn stop(
        &self,
        request: &StopRequest,
        notice: &mut dyn FnMut(&str),
    ) -> Result<StopOutcome, StopError> {
        let running_generation = || Some(self.recorded_state().ok()??.generation);
        let generation = running_generation();
        // A restart increments the generation; a fresh start begins at 1.
        let was_replaced = || {
            generation.is_some_and(|before| running_generation().is_some_and(|now| now > before))
        };
        let mut is_retry = false;
        let mut stopped_before = None;
        loop {
            let outcome = self.stop_once(request, is_retry, notice).await?;
            is_retry = true;
            match outcome {
                // The new process stopped after the one that was stopped first.
                Some(StopOutcome::NotRunning | StopOutcome::Dead(_))
                    if let Some(stopped) = stopped_before.take() =>
                {
                    return Ok(stopped);
                }
                // A process that took over meanwhile has to be stopped, too.
                Some(outcome) if was_replaced() => stopped_before = Some(outcome),
                Some(outcome) => return Ok(outcome),
                None => {}
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// `None` if the daemon was replaced during the attempt.
    async fn stop_once(
        &self,
        request: &StopRequest,
        is_retry: bool,
        notice: &mut dyn FnMut(&str),
    ) -> Result<Option<StopOutcome>, StopError> {
        let (process, state, client) = match self.find_target().await? {
            Target::Local {
                holder: LockHolder::Known(process),
                state,
                client,
            } => (process, state, client),
            Target::Unlocked {
                process,
                state,
                client,
            } => (process, Some(state), client),
            Target::Local {
                holder: LockHolder::Hidden(recorded),
                client,
                ..
            } => {
                let process = recorded.and_then(Process::open);
                let stopped = async { stop_over_api(&client?, request, process).await }.await;
                return stopped.map(Some).map_err(|error| match error {
                    StopError::Client(error @ ClientError::NoState(_)) => StopError::Client(error),
                    StopError::Client(error) => {
                        StopError::Hidden(error, LockHolder::explain_hidden(recorded))
                    }
                    other => other,
                });
            }
            Target::Dead(pid) => return Ok(Some(StopOutcome::Dead(pid))),
            Target::Absent => return Ok(Some(StopOutcome::NotRunning)),
            Target::Remote(client) => {
                let client = client?;
                let stopped = stop_over_api(&client, request, find_local_process(&client)).await;
                return stopped.map(Some);
            }
        };
        let accepted = async { client?.stop_daemon(request).await }.await;
        let timeout = state.and_then(|state| state.stop_timeout);
        let timeout = timeout.unwrap_or(TERM_TIMEOUT);
        let stopped = self.await_stop(&process, accepted, timeout, is_retry, notice)?;
        Ok(stopped.map(|method| StopOutcome::Stopped {
            pid: process.pid(),
            method,
        }))
    }

    /// Waits for the exit of the process after the answer of the admin API, and signals it if the
    /// API gave none. `None` if the process was replaced.
    fn await_stop(
        &self,
        process: &Process,
        accepted: Result<StopResult, ClientError>,
        timeout: Duration,
        is_retry: bool,
        notice: &mut dyn FnMut(&str),
    ) -> Result<Option<StopMethod>, StopError> {
        let method = match accepted {
            Ok(accepted) => self.await_exit(process, &accepted, notice)?,
            Err(error) if error.is_conflict() => return Ok(None),
            // The old process passed the stop on to this one. A signal would be the second request
            // to stop, and abort its requests.
            Err(_) if is_retry && process.wait_for_exit(timeout) => StopMethod::Rest,
            Err(error) => stop_by_signal(process, &error.to_string(), timeout, notice)?,
        };
        if method == StopMethod::Killed {
            self.clean_up_after_kill();
        }
        Ok(Some(method))
    }

    /// Waits until the deadline that the daemon promised, then signals it.
    fn await_exit(
        &self,
        process: &Process,
        accepted: &StopResult,
        notice: &mut dyn FnMut(&str),
    ) -> Result<StopMethod, StopError> {
        // During a handoff, the new process may have answered. It shares the lock. Any other
        // process that an answer names is not the daemon: it is in another PID namespace, or the
        // answer is forged.
        let other = (accepted.pid != process.pid())
            .then(|| Process::open(accepted.pid))
            .flatten()
            .filter(|other| holds_pid_file_lock(self.pid_file(), other));
        let process = other.as_ref().unwrap_or(process);
        if process.wait_for_exit(time_left(accepted) + EXIT_MARGIN) {
            return Ok(StopMethod::Rest);
        }
        let late = "the daemon accepted the stop but did not exit by its deadline";
        stop_by_signal(process, late, TERM_TIMEOUT, notice)
    }

    /// Removes the PID file of a killed daemon, and records in its state file how it ended.
    fn clean_up_after_kill(&self) {
        // Fails if another start has claimed the file already. Dropping it removes it.
        if let Ok(pid_file) = PidFile::acquire(self.pid_file())
            && let Ok(state) = StateFile::read_own(pid_file.path())
            && state.exit.is_none()
        {
            let exit = ExitRecord {
                cause: ExitCause::Interrupted,
                by: self.subject.clone(),
                at: Timestamp::now().to_string(),
            };
            state.record_exit(pid_file.path(), exit);
        }
    }
}

/// The time until the deadline of an accepted stop.
fn time_left(accepted: &StopResult) -> Duration {
    let until_deadline = || {
        let deadline: Timestamp = accepted.deadline.parse().ok()?;
        Duration::try_from(deadline.duration_since(Timestamp::now())).ok()
    };
    accepted
        .seconds_left
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .or_else(until_deadline)
        .unwrap_or_default()
}

/// Sends SIGTERM, and SIGKILL if the process does not exit within `term_timeout`.
fn stop_by_signal(
    process: &Process,
    api_error: &str,
    term_timeout: Duration,
    notice: &mut dyn FnMut(&str),
) -> Result<StopMethod, StopError> {
    let pid = process.pid();
    notice(&format!("{api_error}; sending SIGTERM to process {pid}"));
    check_delivery(process, process.terminate(), api_error)?;
    if process.wait_for_exit(term_timeout) {
        return Ok(StopMethod::Terminated);
    }
    notice(&format!(
        "process {pid} did not exit within {term_timeout:?} of SIGTERM; sending SIGKILL"
    ));
    check_delivery(process, process.kill(), api_error)?;
    if process.wait_for_exit(KILL_TIMEOUT) {
        Ok(StopMethod::Killed)
    } else {
        Err(StopError::Unkillable(pid))
    }
}

/// The process that listens at the address of the API, if that is on this machine.
fn find_local_process(client: &AdminClient) -> Option<Process> {
    let base = client.base_url();
    let is_local = ["127.0.0.1", "[::1]", "localhost"].contains(&base.host_str()?);
    find_listener(base.port_or_known_default().filter(|_| is_local)?)
}

/// Stops a daemon that may not be signalled or runs on another machine. If `process` is the
/// daemon's, waits for its exit. Otherwise the daemon has stopped when nothing, or another daemon,
/// answers.
async fn stop_over_api(
    client: &AdminClient,
    request: &StopRequest,
    process: Option<Process>,
) -> Result<StopOutcome, StopError> {
    let accepted = client.stop_daemon(request).await?;
    let stopped = |method| StopOutcome::Stopped {
        pid: accepted.pid,
        method,
    };
    let still_running = || StopError::StillRunning(client.base_url().to_string());
    let timeout = time_left(&accepted) + EXIT_MARGIN;
    if let Some(process) = process.filter(|process| process.pid() == accepted.pid) {
        return if process.wait_for_exit(timeout) {
            Ok(stopped(StopMethod::Rest))
        } else {
            Err(still_running())
        };
    }
    let end = Instant::now() + timeout;
    while Instant::now() < end {
        match client.status().await {
            Ok(status) if status.pid == accepted.pid => tokio::time::sleep(POLL_INTERVAL).await,
            _ => return Ok(stopped(StopMethod::Unconfirmed)),
        }
    }
    Err(still_running())
}

#[cfg(test)]
mod tests {
    use std::io::BufRead as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn process_that_ignores_sigterm_is_killed() {
        let mut child = Command::new("sh")
            .args(["-c", "trap '' TERM; echo ready; while :; do sleep 1; done"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        std::io::BufReader::new(stdout)
            .read_line(&mut line)
            .unwrap();
        let process = Process::open(child.id()).unwrap();
        let mut notices = Vec::new();
        let timeout = Duration::from_millis(50);
        let method = stop_by_signal(&process, "", timeout, &mut |text| {
            notices.push(text.to_owned());
        });
        assert_eq!(method.unwrap(), StopMethod::Killed);
        assert!(notices[1].contains("sending SIGKILL"), "{notices:?}");
        child.wait().unwrap();
    }
}

//! Stops the daemon, and waits until the process is gone.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use thiserror::Error;

use super::{Control, Target};
use crate::api::{ExitCause, StopAccepted, StopRequest};
use crate::client::{AdminClient, ClientError};
use crate::instance::{
    ExitRecord, LockHolder, PidFile, PidFileError, PidFileStatus, Process, StateFile,
    find_listener, inspect_pid_file,
};

/// How long a process that was sent SIGTERM may take, beyond its `DRAIN_DELAY`.
const TERM_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a killed process may take to be gone: only a hung disk takes longer.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);
/// How much longer than the deadline it gave a daemon may take to exit.
const EXIT_MARGIN: Duration = Duration::from_secs(5);
/// How often a daemon that is not a process of this machine is asked whether it still answers.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// What became of it.
#[derive(Debug)]
pub enum StopOutcome {
    /// It stopped.
    Stopped {
        /// Its process id.
        pid: u32,
        /// By which way.
        method: StopMethod,
    },
    /// There was none.
    NotRunning,
    /// It had died before.
    Dead(Option<u32>),
}

/// By which way a daemon was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopMethod {
    /// Through the admin API.
    Rest,
    /// Through the admin API, which answers no more; whether the process is gone cannot be seen from here.
    Unconfirmed,
    /// By SIGTERM.
    Terminated,
    /// By SIGKILL: it did not stop by itself.
    Killed,
}

/// It could not be stopped.
#[derive(Debug, Error)]
pub enum StopError {
    /// The PID file cannot be read.
    #[error(transparent)]
    PidFile(#[from] PidFileError),
    /// The admin API could not be used, and there is no other way.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The process is not ours to signal.
    #[error(
        "{because}; and process {pid} may not be signalled: {source}; use sudo, or a token of that daemon"
    )]
    NotPermitted {
        /// The process.
        pid: u32,
        /// Why the admin API was no way.
        because: String,
        /// Why.
        source: io::Error,
    },
    /// The process belongs to somebody else and cannot be looked at.
    #[error(
        "{0}; and the process that holds the PID file belongs to another user: use sudo, or a token of that daemon"
    )]
    Hidden(ClientError),
    /// Somebody else's daemon answers at the configured address.
    #[error(
        "no daemon holds the PID file; the one at {base} (PID {pid}) has the PID file {pid_file}: to stop that one, set PID_FILE or give --admin-url {base}"
    )]
    AnotherPidFile {
        /// Base URL of its admin API.
        base: String,
        /// Its process id.
        pid: u32,
        /// Its PID file.
        pid_file: String,
    },
    /// Not even SIGKILL ended it.
    #[error("process {0} is still there after SIGKILL: it waits for a device; look at `dmesg`")]
    Unkillable(u32),
    /// It was asked, and goes on.
    #[error("the daemon at {0} accepted the stop but did not exit by its deadline")]
    StillRunning(String),
}

impl Control {
    /// Stops the daemon. `notice` is told, at once, when another way than the admin API is taken, and why.
    ///
    /// # Errors
    ///
    /// Why it still runs.
    pub async fn stop(
        &self,
        order: &StopRequest,
        notice: &mut dyn FnMut(&str),
    ) -> Result<StopOutcome, StopError> {
        let generation = self.running_generation();
        let mut is_again = false;
        let mut done = None;
        loop {
            let stopped = self.stop_once(order, is_again, notice).await?;
            is_again = true;
            // A successor that took over meanwhile is meant too; one that was started anew begins at 1.
            let is_replaced = || match (self.running_generation(), generation) {
                (Some(now), Some(then)) => now > then,
                _ => false,
            };
            match stopped {
                // It had been told to stop already.
                Some(StopOutcome::NotRunning | StopOutcome::Dead(_))
                    if let Some(done) = done.take() =>
                {
                    return Ok(done);
                }
                Some(stopped) if !is_replaced() => return Ok(stopped),
                Some(stopped) => done = Some(stopped),
                None => {}
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// The generation of the daemon that holds the PID file.
    fn running_generation(&self) -> Option<u32> {
        let pid_file = &self.locator.pid_file;
        let Ok(PidFileStatus::Held(holder)) = inspect_pid_file(pid_file) else {
            return None;
        };
        Some(
            StateFile::read_active(pid_file, holder.pid()?)
                .ok()?
                .generation,
        )
    }

    /// `None` when the daemon has been replaced meanwhile.
    async fn stop_once(
        &self,
        order: &StopRequest,
        is_again: bool,
        notice: &mut dyn FnMut(&str),
    ) -> Result<Option<StopOutcome>, StopError> {
        Ok(Some(match self.find_target().await? {
            Target::Local {
                holder: LockHolder::Known(process),
                state,
                client,
            } => {
                let delay = state.map_or(Duration::ZERO, |state| state.drain_delay);
                let patience = TERM_TIMEOUT + delay;
                let answer = match client {
                    Ok(client) => client.stop(order).await,
                    Err(error) => Err(error),
                };
                let how = match answer {
                    Ok(accepted) => {
                        // A successor that is taking over may have answered.
                        let other = (accepted.pid != process.pid())
                            .then(|| Process::open(accepted.pid))
                            .flatten();
                        let process = other.as_ref().unwrap_or(&process);
                        wait_for_exit(process, &accepted, notice)?
                    }
                    Err(error) if error.is_conflict() => {
                        return Ok(None);
                    }
                    // Its predecessor has told it to stop already: a signal would be the second one, and cut requests off.
                    Err(_) if is_again && process.wait_for_exit(patience) => StopMethod::Rest,
                    Err(error) => {
                        notice(&format!(
                            "{error}; stopping process {} by signal",
                            process.pid()
                        ));
                        stop_by_signal(&process, &error.to_string(), patience, notice)?
                    }
                };
                if how == StopMethod::Killed {
                    self.clean_up_after_kill();
                }
                StopOutcome::Stopped {
                    pid: process.pid(),
                    method: how,
                }
            }
            Target::Local {
                holder: LockHolder::Hidden(named),
                client,
                ..
            } => {
                let client = client.map_err(StopError::Hidden)?;
                stop_over_api(&client, order, named.and_then(Process::open))
                    .await
                    .map_err(|error| match error {
                        StopError::Client(error) => StopError::Hidden(error),
                        other => other,
                    })?
            }
            Target::Dead(pid) => StopOutcome::Dead(pid),
            Target::Absent(Ok(client)) => match self.stop_by_address(&client, order).await {
                Err(StopError::Client(
                    ClientError::Unreachable { .. } | ClientError::UnexpectedServer { .. },
                )) => StopOutcome::NotRunning,
                other => other?,
            },
            Target::Absent(Err(error)) if self.admin_url.is_some() => return Err(error.into()),
            Target::Absent(Err(_)) => StopOutcome::NotRunning,
            Target::Remote(client) => {
                let listener = local_port(&client).and_then(find_listener);
                stop_over_api(&client, order, listener).await?
            }
        }))
    }

    /// Stops the daemon at the configured address, although it does not hold our PID file: only if it is the one that was
    /// meant.
    async fn stop_by_address(
        &self,
        client: &AdminClient,
        order: &StopRequest,
    ) -> Result<StopOutcome, StopError> {
        let status = client.status().await?;
        if self.admin_url.is_none() && Path::new(&status.pid_file) != self.locator.pid_file {
            return Err(StopError::AnotherPidFile {
                base: client.base_url().to_string(),
                pid: status.pid,
                pid_file: status.pid_file,
            });
        }
        let listener = local_port(client).and_then(find_listener);
        stop_over_api(client, order, listener).await
    }

    /// What a killed daemon could not remove itself.
    fn clean_up_after_kill(&self) {
        // Another start may have taken the file over already. It is removed when this lets go of it.
        if let Ok(pid_file) = PidFile::acquire(&self.locator.pid_file)
            && let Ok(state) = StateFile::read_last(pid_file.path())
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

/// Waits as long as the daemon said it may take, then insists.
fn wait_for_exit(
    process: &Process,
    accepted: &StopAccepted,
    notice: &mut dyn FnMut(&str),
) -> Result<StopMethod, StopError> {
    if process.wait_for_exit(time_left(accepted) + EXIT_MARGIN) {
        return Ok(StopMethod::Rest);
    }
    let late = "the daemon accepted the stop and did not exit by its deadline";
    notice(&format!(
        "{late}; stopping process {} by signal",
        process.pid()
    ));
    stop_by_signal(process, late, TERM_TIMEOUT, notice)
}

fn time_left(accepted: &StopAccepted) -> Duration {
    let by_the_clock = || {
        let deadline: Timestamp = accepted.deadline.parse().ok()?;
        Duration::try_from(deadline.duration_since(Timestamp::now())).ok()
    };
    accepted
        .seconds_left
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .or_else(by_the_clock)
        .unwrap_or_default()
}

fn stop_by_signal(
    process: &Process,
    because: &str,
    term_timeout: Duration,
    notice: &mut dyn FnMut(&str),
) -> Result<StopMethod, StopError> {
    let not_permitted = |source| StopError::NotPermitted {
        pid: process.pid(),
        because: because.to_owned(),
        source,
    };
    if let Err(error) = process.terminate()
        && !process.has_exited()
    {
        return Err(not_permitted(error));
    }
    if process.wait_for_exit(term_timeout) {
        return Ok(StopMethod::Terminated);
    }
    notice(&format!(
        "it did not stop within {term_timeout:?} of SIGTERM; killing it"
    ));
    if let Err(error) = process.kill()
        && !process.has_exited()
    {
        return Err(not_permitted(error));
    }
    if process.wait_for_exit(KILL_TIMEOUT) {
        Ok(StopMethod::Killed)
    } else {
        Err(StopError::Unkillable(process.pid()))
    }
}

/// The port of an API on this machine.
fn local_port(client: &AdminClient) -> Option<u16> {
    let base = client.base_url();
    let is_local = base
        .host_str()
        .is_some_and(|host| ["127.0.0.1", "[::1]", "localhost"].contains(&host));
    base.port_or_known_default().filter(|_| is_local)
}

/// Stops a daemon that may not be signalled, or is not a process of this machine. `process` is waited for if it turns
/// out to be the daemon's; otherwise the daemon is gone when nobody, or another one, answers.
async fn stop_over_api(
    client: &AdminClient,
    order: &StopRequest,
    process: Option<Process>,
) -> Result<StopOutcome, StopError> {
    let accepted = client.stop(order).await?;
    let done = |how| StopOutcome::Stopped {
        pid: accepted.pid,
        method: how,
    };
    let patience = time_left(&accepted) + EXIT_MARGIN;
    if let Some(process) = process.filter(|process| process.pid() == accepted.pid) {
        return if process.wait_for_exit(patience) {
            Ok(done(StopMethod::Rest))
        } else {
            Err(StopError::StillRunning(client.base_url().to_string()))
        };
    }
    let end = Instant::now() + patience;
    while Instant::now() < end {
        match client.status().await {
            Ok(status) if status.pid == accepted.pid => tokio::time::sleep(POLL_INTERVAL).await,
            _ => return Ok(done(StopMethod::Unconfirmed)),
        }
    }
    Err(StopError::StillRunning(client.base_url().to_string()))
}

#[cfg(test)]
mod tests {
    use std::io::BufRead as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn process_that_ignores_sigterm_is_killed() {
        let mut stubborn = Command::new("sh")
            .args(["-c", "trap '' TERM; echo deaf; while :; do sleep 1; done"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = stubborn.stdout.take().unwrap();
        std::io::BufReader::new(stdout)
            .read_line(&mut line)
            .unwrap();
        let process = Process::open(stubborn.id()).unwrap();
        let mut said = Vec::new();
        let timeout = Duration::from_millis(50);
        let how = stop_by_signal(&process, "", timeout, &mut |text| {
            said.push(text.to_owned());
        });
        assert_eq!(how.unwrap(), StopMethod::Killed);
        assert!(said[0].contains("killing it"), "{said:?}");
        stubborn.wait().unwrap();
    }
}

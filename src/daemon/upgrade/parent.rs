//! A zero-downtime restart, as seen from the old process: it starts its successor, waits until that
//! asks for the handoff, passes it all resources, and waits until the successor serves and has
//! claimed the PID file. If anything fails, this process continues as before.
//!
//! Known limit: a successor must accept connections to prove that it serves. If it is killed
//! between that moment and its claim of the PID file, some milliseconds later, the connections that
//! it accepted are lost.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::os::unix::process::ExitStatusExt as _;
use std::pin::pin;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;

use crate::instance::{HandoffPayload, PidFile, StartupReport};
use crate::server::control_request::{RestartFailure, RestartFailureKind};
use crate::sys::Process;

/// How long a process may take to exit after it was killed or has closed the channel.
const EXIT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait for the end of its stderr, which its own children may keep open.
const STDERR_TIMEOUT: Duration = Duration::from_millis(200);
/// How much of its stderr is reported, in bytes.
const STDERR_TAIL_LEN: usize = 4096;
/// The longest line on the channel, in bytes.
const MAX_LINE_LEN: u64 = 64 * 1024;

/// A successor that serves and has claimed the PID file.
pub struct ReadySuccessor {
    pub process: Process,
    /// Base URL of its public API.
    pub server: String,
    /// Base URL of its admin API.
    pub admin: String,
    /// Closing it tells the successor that this process has released its resources.
    pub channel: UnixStream,
}

/// A successor that waits for the handoff. Its application is ready.
pub struct WaitingSuccessor(PendingSuccessor);

/// Runs the command as the successor, until it asks for the handoff. `give_up` ends the attempt.
///
/// # Errors
///
/// The successor failed, or the reason of `give_up`. It has been killed then.
pub async fn start_successor(
    command: Command,
    give_up: impl Future<Output = RestartFailure>,
) -> Result<WaitingSuccessor, RestartFailure> {
    let mut give_up = pin!(give_up);
    let mut successor = tokio::select! {
        biased;
        // A process that is spawned nevertheless finds the channel closed.
        failure = &mut give_up => return Err(failure),
        successor = PendingSuccessor::spawn(command) => successor?,
    };
    let outcome = tokio::select! {
        biased;
        failure = &mut give_up => Err(failure),
        outcome = successor.receive_hello() => outcome,
    };
    match outcome {
        Ok(()) => Ok(WaitingSuccessor(successor)),
        Err(failure) => {
            successor.kill().await;
            Err(failure)
        }
    }
}

impl WaitingSuccessor {
    /// Ends the successor.
    pub async fn kill(self) {
        self.0.kill().await;
    }

    /// Hands everything over, until the successor has claimed the PID file. `give_up` ends the
    /// attempt.
    ///
    /// # Errors
    ///
    /// The successor failed, or the reason of `give_up`. It has been killed then, but the PID file
    /// may already name it.
    pub async fn hand_over(
        self,
        payload: HandoffPayload,
        pid_file: &PidFile,
        give_up: impl Future<Output = RestartFailure>,
    ) -> Result<ReadySuccessor, RestartFailure> {
        let Self(mut successor) = self;
        let outcome = tokio::select! {
            biased;
            failure = give_up => Err(failure),
            outcome = successor.complete_handoff(payload, pid_file) => outcome,
        };
        match outcome {
            Ok((process, server, admin)) => {
                if process.pid() != successor.process.pid() {
                    // The child is the systemd shim, which has done its part.
                    successor.kill_child().await;
                }
                Ok(ReadySuccessor {
                    process,
                    server,
                    admin,
                    channel: successor.channel.into_inner(),
                })
            }
            Err(failure) => {
                successor.kill().await;
                Err(failure)
            }
        }
    }
}

/// A child that may become the successor, or the systemd shim that runs it.
struct PendingSuccessor {
    child: Child,
    process: Process,
    channel: BufReader<UnixStream>,
    stderr: JoinHandle<String>,
}

impl PendingSuccessor {
    async fn spawn(mut command: Command) -> Result<Self, RestartFailure> {
        let program = command.get_program().display().to_string();
        let failed = |error: io::Error| {
            RestartFailure::new(
                RestartFailureKind::StartFailed,
                format!("the new process {program} cannot be started: {error}"),
            )
        };
        let (ours, theirs) = StdStream::pair().map_err(failed)?;
        ours.set_nonblocking(true).map_err(failed)?;
        let channel = UnixStream::from_std(ours).map_err(failed)?;
        command.stdin(OwnedFd::from(theirs)).stderr(Stdio::piped());
        // Spawning blocks while the disk is slow. The closure drops the command, and with it this
        // process's copy of the child's end of the channel.
        let spawned = tokio::task::spawn_blocking(move || command.spawn()).await;
        let mut child = spawned
            .map_err(io::Error::other)
            .and_then(|child| child)
            .map_err(failed)?;
        let stderr = child.stderr.take().map(OwnedFd::from);
        let stderr = stderr.map(pipe::Receiver::from_owned_fd).transpose();
        let Some(process) = Process::open(child.id()) else {
            // Where SIGCHLD is ignored, the kernel reaps an exited child and frees its PID.
            return Err(failed(io::Error::other("it exited at once")));
        };
        Ok(Self {
            child,
            process,
            channel: BufReader::new(channel),
            stderr: tokio::spawn(read_tail(stderr.map_err(failed)?)),
        })
    }

    /// Waits until the successor asks for the handoff. It also does when it cannot start, and then
    /// reports the reason.
    async fn receive_hello(&mut self) -> Result<(), RestartFailure> {
        let Some(line) = read_line(&mut self.channel).await else {
            return Err(self.describe_exit().await);
        };
        HandoffPayload::check_hello(&line)
            .map_err(|reason| start_failed(format!("the new process cannot take over: {reason}")))
    }

    /// Returns the successor and the URLs of its public and admin API.
    async fn complete_handoff(
        &mut self,
        payload: HandoffPayload,
        pid_file: &PidFile,
    ) -> Result<(Process, String, String), RestartFailure> {
        if payload.send(self.channel.get_ref()).is_err() {
            return Err(self.describe_exit().await);
        }
        drop(payload);
        let Some(line) = read_line(&mut self.channel).await else {
            return Err(self.describe_exit().await);
        };
        match StartupReport::parse(&line) {
            Ok(StartupReport::Ready { pid, server, admin }) => {
                let has_claimed = pid != std::process::id() && pid_file.recorded_pid() == Some(pid);
                match Process::open(pid).filter(|_| has_claimed) {
                    Some(process) if !self.process.has_exited() => Ok((process, server, admin)),
                    Some(_) => Err(self.describe_exit().await),
                    None => Err(start_failed(
                        "the new process reported that it is ready, but it has not taken over the PID file",
                    )),
                }
            }
            Ok(StartupReport::Failed { message, exit_code }) => {
                let kind = if exit_code == 2 {
                    RestartFailureKind::InvalidSettings
                } else {
                    RestartFailureKind::StartFailed
                };
                Err(RestartFailure::new(kind, message))
            }
            Err(error) => Err(start_failed(format!(
                "the new process sent an invalid start-up report: {error}"
            ))),
        }
    }

    /// Describes a successor that closed the channel without a report.
    async fn describe_exit(&mut self) -> RestartFailure {
        let exited = tokio::time::timeout(EXIT_TIMEOUT, self.process.exited()).await;
        let end = match (exited, self.child.try_wait()) {
            (Ok(Ok(())), Ok(Some(status))) => {
                format!("exited during start-up ({})", describe_status(status))
            }
            (Ok(Ok(())), _) => "exited during start-up".to_owned(),
            _ => "closed the handoff connection".to_owned(),
        };
        let stderr = tokio::time::timeout(STDERR_TIMEOUT, &mut self.stderr).await;
        let stderr = stderr.ok().and_then(Result::ok).unwrap_or_default();
        let detail = match stderr.trim() {
            "" => String::new(),
            text => format!(": {text}"),
        };
        RestartFailure::new(
            RestartFailureKind::StartFailed,
            format!("the new process {end}{detail}"),
        )
    }

    /// Kills the child, and its own children if it is the systemd shim.
    async fn kill(mut self) {
        let parent = self.process.pid();
        let grandchildren: Vec<_> = Process::all()
            .filter(|process| process.parent_pid() == Some(parent))
            .collect();
        for process in &grandchildren {
            // It may have exited already.
            let _ = process.kill();
        }
        self.kill_child().await;
        for process in &grandchildren {
            let _ = tokio::time::timeout(EXIT_TIMEOUT, process.exited()).await;
        }
    }

    async fn kill_child(&mut self) {
        // It may have exited already.
        let _ = self.process.kill();
        if tokio::time::timeout(EXIT_TIMEOUT, self.process.exited())
            .await
            .is_err()
        {
            tracing::error!(pid = self.process.pid(), "cannot kill the new process");
        }
        // Where SIGCHLD is ignored, there is nothing to reap.
        let _ = self.child.try_wait();
    }
}

fn start_failed(reason: impl Into<String>) -> RestartFailure {
    RestartFailure::new(RestartFailureKind::StartFailed, reason)
}

fn describe_status(status: ExitStatus) -> String {
    match status.signal() {
        Some(signal) => nix::sys::signal::Signal::try_from(signal).map_or_else(
            |_| status.to_string(),
            |signal| format!("killed by {}", signal.as_str()),
        ),
        None => status.to_string(),
    }
}

/// `None` when the channel was closed, or is not text.
async fn read_line(channel: &mut (impl AsyncBufRead + Unpin)) -> Option<String> {
    let mut line = String::new();
    let read = channel.take(MAX_LINE_LEN).read_line(&mut line).await;
    read.is_ok_and(|read| read > 0).then_some(line)
}

/// Reads to the end, and returns the last [`STDERR_TAIL_LEN`] bytes.
async fn read_tail(stderr: Option<pipe::Receiver>) -> String {
    let mut text = Vec::new();
    if let Some(mut stderr) = stderr {
        let mut piece = [0; STDERR_TAIL_LEN];
        while let Ok(read @ 1..) = stderr.read(&mut piece).await {
            text.extend_from_slice(&piece[..read]);
            let excess = text.len().saturating_sub(STDERR_TAIL_LEN);
            text.drain(..excess);
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

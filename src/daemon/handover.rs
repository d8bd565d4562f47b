//! A zero-downtime restart, seen from the daemon that is replaced: it runs its successor, gives it all it needs, and waits
//! until it serves and owns the PID file. Whatever else happens, this daemon goes on as before.
//!
//! What cannot be had: a successor has to accept connections to prove that it serves. If it is killed between that and the
//! moment it owns the PID file, some milliseconds, the connections that it accepted die with it.

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
use tokio_util::sync::CancellationToken;

use crate::instance::{HandoffPayload, PidFile, Process, StartupReport};
use crate::server::control_request::{RestartFailure, RestartFailureKind};

/// How long a process that was killed, or that hung up, may take to be gone.
const EXIT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long what it wrote to stderr is waited for: a process of its own may keep that open.
const STDERR_TIMEOUT: Duration = Duration::from_millis(200);
/// How much of it is told, in bytes.
const STDERR_TAIL_LEN: usize = 4096;
/// Longest line of the handover, in bytes.
const MAX_LINE_LEN: u64 = 64 * 1024;

/// A process that serves in this one's place.
pub struct ReadySuccessor {
    pub process: Process,
    /// Base URL of its public API.
    pub server: String,
    /// Base URL of its admin API.
    pub admin: String,
    /// When this is dropped, it knows that this process has let go.
    pub channel: UnixStream,
}

/// Runs the command as the successor, until it has taken over.
///
/// # Errors
///
/// Why it has not. It is gone then, and the PID file may name it.
pub async fn start_successor(
    command: Command,
    inheritance: HandoffPayload,
    pid_file: &PidFile,
    timeout: Duration,
    abort: &CancellationToken,
) -> Result<ReadySuccessor, RestartFailure> {
    let give_up = async {
        tokio::select! {
            () = abort.cancelled() => failure(
                RestartFailureKind::Busy,
                "the daemon was asked to stop meanwhile",
            ),
            () = tokio::time::sleep(timeout) => failure(
                RestartFailureKind::TimedOut,
                format!("the successor did not serve within {timeout:?}, and was ended"),
            ),
        }
    };
    let mut give_up = pin!(give_up);
    let mut heir = tokio::select! {
        biased;
        // What is run all the same finds nobody at the other end.
        failure = &mut give_up => return Err(failure),
        heir = PendingSuccessor::spawn(command) => heir?,
    };
    let outcome = tokio::select! {
        biased;
        failure = &mut give_up => Err(failure),
        outcome = heir.complete_handoff(inheritance, pid_file) => outcome,
    };
    match outcome {
        Ok((process, server, admin)) => {
            if process.pid() != heir.process.pid() {
                // What stands between us and it has done its part.
                heir.kill_child().await;
            }
            Ok(ReadySuccessor {
                process,
                server,
                admin,
                channel: heir.channel.into_inner(),
            })
        }
        Err(failure) => {
            heir.kill().await;
            Err(failure)
        }
    }
}

/// A process that may become the successor.
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
            failure(
                RestartFailureKind::StartFailed,
                format!("the successor {program} cannot be run: {error}"),
            )
        };
        let (ours, theirs) = StdStream::pair().map_err(failed)?;
        ours.set_nonblocking(true).map_err(failed)?;
        let channel = UnixStream::from_std(ours).map_err(failed)?;
        command.stdin(OwnedFd::from(theirs)).stderr(Stdio::piped());
        // The disk may be slow. The command goes with it, so that only the child has the other end.
        let spawned = tokio::task::spawn_blocking(move || command.spawn()).await;
        let mut child = spawned
            .map_err(io::Error::other)
            .and_then(|child| child)
            .map_err(failed)?;
        let stderr = child.stderr.take().map(OwnedFd::from);
        let stderr = stderr.map(pipe::Receiver::from_owned_fd).transpose();
        let Some(process) = Process::open(child.id()) else {
            // Where SIGCHLD is ignored, nobody waits for it, and its number is free again.
            let gone = io::Error::other("it was gone at once");
            return Err(failed(gone));
        };
        Ok(Self {
            child,
            process,
            channel: BufReader::new(channel),
            stderr: tokio::spawn(read_tail(stderr.map_err(failed)?)),
        })
    }

    async fn complete_handoff(
        &mut self,
        inheritance: HandoffPayload,
        pid_file: &PidFile,
    ) -> Result<(Process, String, String), RestartFailure> {
        let failed = |reason: String| failure(RestartFailureKind::StartFailed, reason);
        let Some(line) = read_line(&mut self.channel).await else {
            return Err(self.describe_exit().await);
        };
        HandoffPayload::check_hello(&line)
            .map_err(|reason| failed(format!("what was run is not a successor: {reason}")))?;
        if inheritance.send(self.channel.get_ref()).is_err() {
            return Err(self.describe_exit().await);
        }
        drop(inheritance);
        let Some(line) = read_line(&mut self.channel).await else {
            return Err(self.describe_exit().await);
        };
        match StartupReport::parse(&line) {
            Ok(StartupReport::Ready { pid, server, admin }) => {
                let is_owner = pid != std::process::id() && pid_file.recorded_pid() == Some(pid);
                let process = Process::open(pid).filter(|_| is_owner);
                match process {
                    Some(process) if !self.process.has_exited() => Ok((process, server, admin)),
                    Some(_) => Err(self.describe_exit().await),
                    None => Err(failed(
                        "the successor said that it serves, and did not take over the PID file"
                            .into(),
                    )),
                }
            }
            Ok(StartupReport::Failed { message, exit_code }) => {
                let kind = if exit_code == 2 {
                    RestartFailureKind::InvalidSettings
                } else {
                    RestartFailureKind::StartFailed
                };
                Err(failure(kind, message))
            }
            Err(error) => Err(failed(format!(
                "the successor cannot be understood: {error}"
            ))),
        }
    }

    /// What there is to say of one that hung up.
    async fn describe_exit(&mut self) -> RestartFailure {
        let gone = tokio::time::timeout(EXIT_TIMEOUT, self.process.exited()).await;
        let how = match (gone, self.child.try_wait()) {
            (Ok(Ok(())), Ok(Some(status))) => {
                format!("ended while starting ({})", describe_status(status))
            }
            (Ok(Ok(())), _) => "ended while starting".to_owned(),
            _ => "broke off the handover".to_owned(),
        };
        let said = tokio::time::timeout(STDERR_TIMEOUT, &mut self.stderr).await;
        let said = said.ok().and_then(Result::ok).unwrap_or_default();
        let said = match said.trim() {
            "" => String::new(),
            text => format!(": {text}"),
        };
        failure(
            RestartFailureKind::StartFailed,
            format!("the successor {how}{said}"),
        )
    }

    /// Ends it, and what it has run in between.
    async fn kill(mut self) {
        let runs = self.process.pid();
        let children: Vec<_> = Process::all()
            .filter(|process| process.parent_pid() == Some(runs))
            .collect();
        for process in &children {
            // It may be gone already.
            let _ = process.kill();
        }
        self.kill_child().await;
        for process in &children {
            let _ = tokio::time::timeout(EXIT_TIMEOUT, process.exited()).await;
        }
    }

    async fn kill_child(&mut self) {
        // It may be gone already.
        let _ = self.process.kill();
        if tokio::time::timeout(EXIT_TIMEOUT, self.process.exited())
            .await
            .is_err()
        {
            tracing::error!(pid = self.process.pid(), "the successor cannot be killed");
        }
        // Where SIGCHLD is ignored, there is nothing to collect.
        let _ = self.child.try_wait();
    }
}

fn describe_status(status: ExitStatus) -> String {
    match status.signal() {
        Some(libc_signal) => nix::sys::signal::Signal::try_from(libc_signal).map_or_else(
            |_| status.to_string(),
            |signal| format!("by {}", signal.as_str()),
        ),
        None => status.to_string(),
    }
}

/// `None` when the other end is gone, or says too much.
async fn read_line(channel: &mut (impl AsyncBufRead + Unpin)) -> Option<String> {
    let mut line = String::new();
    let read = channel.take(MAX_LINE_LEN).read_line(&mut line).await;
    read.is_ok_and(|read| read > 0).then_some(line)
}

/// The end of what is written there.
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

fn failure(kind: RestartFailureKind, reason: impl Into<String>) -> RestartFailure {
    RestartFailure {
        kind,
        reason: reason.into(),
    }
}

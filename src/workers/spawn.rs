//! A worker and its guard, as seen from the daemon.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::address::Address;
use super::directory::WorkersDirectory;
use super::guard::THIS_PROGRAM;
use super::mark::{GUARD, Mark, WORKER};
use super::order::{Command, Order, Report};
use super::output::{LastLines, OutputReader};
use super::remains::kill_remains_of;
use crate::config::AppSettings;
use crate::identity::identity;
use crate::sys::{ORIGINAL_LIMITS, Process, original_limits};

/// The hidden command that runs [`run_guard`](super::run_guard).
const GUARD_COMMAND: &str = "guard";
/// How long a guard may take to end once nothing is left below it, or it was killed.
const EXIT_TIMEOUT: Duration = Duration::from_secs(10);

/// A worker with its guard.
#[derive(Debug)]
pub struct GuardedWorker {
    pub address: Arc<Address>,
    mark: Mark,
    guard: Process,
    child: Child,
    reports: Lines<BufReader<OwnedReadHalf>>,
    commands: OwnedWriteHalf,
    /// Taken when the program runs.
    pipe: Option<OwnedFd>,
    output: Option<OutputReader>,
}

impl GuardedWorker {
    /// Starts a guard, which starts the worker. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// The system refused.
    pub async fn spawn(settings: AppSettings, directory: WorkersDirectory) -> io::Result<Self> {
        // Spawning blocks while the disk is slow.
        let spawned = tokio::task::spawn_blocking(move || Self::spawn_now(&settings, &directory));
        spawned.await.map_err(io::Error::other)?
    }

    fn spawn_now(settings: &AppSettings, directory: &WorkersDirectory) -> io::Result<Self> {
        let mark = Mark::new(&directory.pid_file);
        let placeholder = settings.command.placeholder();
        let mut address = Address::new(placeholder, directory, &mark)?;
        let order = order(settings, &address, &mark)?;
        let (pipe, output) = io::pipe()?;
        let (channel, theirs) = StdStream::pair()?;
        let mut command = std::process::Command::new(THIS_PROGRAM);
        command
            .arg0(identity().command)
            .arg(GUARD_COMMAND)
            .env_clear()
            .env(GUARD, &mark)
            .current_dir("/")
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.spawn()?;
        // Its copy of the guard's end of the channel.
        drop(command);
        let Some(guard) = Process::open(child.id()) else {
            return Err(io::Error::other("its guard exited at once"));
        };
        let listener = address.listener.take();
        let descriptors: Vec<_> = [Some(output.as_fd()), listener.as_ref().map(|it| it.as_fd())]
            .into_iter()
            .flatten()
            .collect();
        // The end of a guard is noticed at the channel.
        let _ = order.send(&channel, &descriptors);
        channel.set_nonblocking(true)?;
        let (reports, commands) = UnixStream::from_std(channel)?.into_split();
        Ok(Self {
            address: Arc::new(address),
            mark,
            guard,
            child,
            reports: BufReader::new(reports).lines(),
            commands,
            pipe: Some(pipe.into()),
            output: None,
        })
    }

    /// The guard.
    pub fn guard(&self) -> &Process {
        &self.guard
    }

    /// The next report of the guard; `None` when it has ended. Cancel safe.
    pub async fn next_report(&mut self) -> Option<Report> {
        let line = self.reports.next_line().await.ok()??;
        serde_json::from_str(&line).ok()
    }

    /// Sends a command to the guard.
    pub fn send(&self, command: Command) {
        let Ok(mut line) = serde_json::to_vec(&command) else {
            return;
        };
        line.push(b'\n');
        // The socket has room for a few commands. The end of a guard is noticed at the channel.
        let _ = self.commands.try_write(&line);
    }

    /// Logs the output of the worker from now on.
    pub fn read_output(&mut self, slot: u16, pid: u32, last: Arc<LastLines>) -> io::Result<()> {
        if let Some(pipe) = self.pipe.take() {
            self.output = Some(OutputReader::start(pipe, slot, pid, last)?);
        }
        Ok(())
    }

    /// Returns once guard and worker have ended, with everything below them. If the guard was
    /// killed, this ends the rest.
    pub async fn end(mut self) {
        let exited = tokio::time::timeout(EXIT_TIMEOUT, self.guard.exited()).await;
        if !matches!(exited, Ok(Ok(()))) {
            tracing::error!(pid = self.guard.pid(), "a guard did not exit; it is killed");
            let _ = self.guard.kill();
        }
        let is_killed = move || {
            if !has_ended_well(&self.guard) {
                // It is not reaped yet.
                let _ = self.guard.wait_for_exit(EXIT_TIMEOUT);
                kill_remains_of(&self.mark, &self.guard);
            }
            // Where somebody else reaps children, there is nothing to reap.
            let _ = self.child.try_wait();
            self.output
        };
        // The reader has noticed the end of the pipe by now, or is stopped.
        if let Ok(Some(output)) = tokio::task::spawn_blocking(is_killed).await {
            output.finish().await;
        }
    }
}

/// Whether the guard has exited by itself. Does not reap it.
fn has_ended_well(guard: &Process) -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    let pid = Pid::from_raw(guard.pid().cast_signed());
    matches!(waitid(Id::Pid(pid), flags), Ok(WaitStatus::Exited(_, 0)))
}

fn order(settings: &AppSettings, address: &Address, mark: &Mark) -> io::Result<Order> {
    let words = settings.command.words();
    let directory = std::path::absolute(&settings.directory)?.into_os_string();
    let mut environment = settings.environment.clone();
    environment.remove(OsStr::new(ORIGINAL_LIMITS));
    let variables = address.variables().into_iter();
    environment.extend(variables.map(|(name, value)| (name.into(), value.into())));
    environment.insert(WORKER.into(), mark.as_ref().to_owned());
    Ok(Order {
        mark: mark.clone(),
        words: words.iter().map(|word| address.fill(word).into()).collect(),
        directory,
        environment: environment.into_iter().collect(),
        // gunicorn takes a socket twice that its command line names and the variables announce, and
        // exits.
        announces_socket: !words.iter().any(|word| word.contains("fd://{fd}")),
        limits: original_limits(),
        socket: address.socket_file().map(Into::into),
    })
}

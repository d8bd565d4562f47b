//! What a daemon leaves: to its successor, or on the machine for the next start.

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use jiff::Timestamp;
use rustix::process::Signal;

use super::Mode;
use super::reload::Reloadable;
use crate::instance::{
    Exit, FailedRestart, Inheritance, InheritedSocket, Launch, PidFile, Process, State, StoredKey,
};
use crate::server::orders::RestartFailure;

/// How long a successor that was killed may take to let go of the lock.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// What is left, and how it is left.
pub struct Legacy {
    pub launch: Launch,
    pub mode: Mode,
    pub state: State,
    pub pid_file: PidFile,
    pub sockets: Vec<InheritedSocket>,
    /// Daemons that this one replaced, directly or not. Some may still drain.
    pub predecessors: Vec<Process>,
}

impl Legacy {
    /// The command that runs a successor, and what it is given.
    pub fn prepare(&self, by: &str, reloadable: &Reloadable) -> io::Result<(Command, Inheritance)> {
        if let Some(missing) = self.launch.missing() {
            let text = format!("{} is not there", missing.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, text));
        }
        let mut command = self.launch.command(self.mode.arguments_of_successor());
        if self.mode.needs_keeper() {
            // Signals of the terminal come to this process, which passes them on.
            command.process_group(0);
        }
        let mut sockets = Vec::new();
        for socket in &self.sockets {
            sockets.push(InheritedSocket {
                listener: socket.listener.try_clone()?,
                ..*socket
            });
        }
        let mut predecessors = Vec::new();
        // Whoever stays as a keeper must not be told to stop: it passes that on.
        if !self.mode.needs_keeper() {
            predecessors.extend(Process::open(self.state.pid));
        }
        for process in self
            .predecessors
            .iter()
            .filter(|process| !process.is_gone())
        {
            predecessors.push(process.try_clone()?);
        }
        let inheritance = Inheritance {
            pid: self.state.pid,
            generation: self.state.generation,
            by: by.to_owned(),
            pid_file: self.pid_file.path().to_owned(),
            lock: self.pid_file.share()?,
            instance_key: self.state.instance_key.clone(),
            configured_key: Some(StoredKey::new(reloadable.keys.current().expose())),
            previous_key: reloadable.keys.previous().map(|previous| {
                let counts_for = u64::try_from(previous.counts_for.as_millis());
                let key = StoredKey::new(previous.secret.expose());
                (key, counts_for.unwrap_or(u64::MAX))
            }),
            checks: reloadable.health.known(),
            stderr: io::stderr().as_fd().try_clone_to_owned()?,
            sockets,
            predecessors,
        };
        Ok((command, inheritance))
    }

    /// Leaves it all to the successor.
    pub fn leave(self) {
        self.pid_file.leave();
    }

    /// Takes back what a successor took that did not live to tell, and notes why there is none, if that is to be known.
    pub async fn take_back(&mut self, failure: Option<&RestartFailure>) {
        let heirs = Process::all().filter(|process| process.pid() != self.state.pid);
        let heirs: Vec<_> = heirs
            .filter(|process| self.pid_file.is_shared_by(process))
            .collect();
        for heir in heirs {
            // It may be gone already.
            let _ = heir.kill();
            let _ = tokio::time::timeout(KILL_TIMEOUT, heir.gone()).await;
        }
        if let Some(failure) = failure {
            self.state.failed_restart = Some(FailedRestart {
                at: Timestamp::now().to_string(),
                reason: failure.reason.clone(),
            });
        }
        if !self.pid_file.is_in_place() {
            // Both files are another daemon's by now.
            return;
        }
        if let Err(error) = self.write_state() {
            tracing::error!(%error, "the state file could not be written");
        }
        if let Err(error) = self.pid_file.take_over() {
            tracing::error!(%error, "the PID file could not be written");
        }
    }

    /// Tells the machine what has changed about this daemon.
    pub fn write_state(&self) -> io::Result<()> {
        if self.pid_file.is_in_place() {
            self.state
                .write(self.pid_file.path())
                .map_err(io::Error::other)
        } else {
            // The file is another daemon's by now.
            Ok(())
        }
    }

    /// Forgets one of them that is gone, once one is.
    pub async fn forget_predecessor(&mut self) {
        match self.predecessors.last() {
            // One that cannot be waited for has a deadline of its own.
            Some(process) => drop(process.gone().await),
            None => std::future::pending().await,
        }
        self.predecessors.pop();
    }

    /// Has the daemons before this one finish, and waits until they have.
    pub async fn end_predecessors(&self) {
        for predecessor in &self.predecessors {
            // Most are gone.
            let _ = predecessor.signal(Signal::TERM);
        }
        for predecessor in &self.predecessors {
            // One that cannot be waited for has a deadline of its own.
            let _ = predecessor.gone().await;
        }
    }

    /// Ends those that have not finished in time.
    pub fn kill_predecessors(&self) {
        for predecessor in &self.predecessors {
            // Most are gone.
            let _ = predecessor.kill();
        }
    }

    /// Leaves nothing but how the daemon ended.
    pub fn end(self, exit: Exit) {
        // Otherwise both files are another daemon's by now.
        if self.pid_file.is_in_place() {
            self.state.end(self.pid_file.path(), exit);
        }
    }
}

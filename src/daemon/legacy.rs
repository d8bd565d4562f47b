//! What a daemon leaves: to its successor, or on the machine for the next start.

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use jiff::Timestamp;
use rustix::process::Signal;

use super::RunMode;
use super::reload::Reloadable;
use crate::instance::{
    ExitRecord, FailedRestart, HandoffPayload, InheritedSocket, Launch, PidFile, Process,
    StateFile, StoredKey,
};
use crate::server::control_request::RestartFailure;

/// How long a successor that was killed may take to let go of the lock.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// What is left, and how it is left.
pub struct InstanceResources {
    pub launch: Launch,
    pub mode: RunMode,
    pub state: StateFile,
    pub pid_file: PidFile,
    pub sockets: Vec<InheritedSocket>,
    /// Daemons that this one replaced, directly or not. Some may still drain.
    pub predecessors: Vec<Process>,
}

impl InstanceResources {
    /// The command that runs a successor, and what it is given.
    pub fn prepare_handoff(
        &self,
        by: &str,
        reloadable: &Reloadable,
    ) -> io::Result<(Command, HandoffPayload)> {
        if let Some(missing) = self.launch.missing_path() {
            let text = format!("{} is not there", missing.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, text));
        }
        let mut command = self.launch.command(self.mode.successor_arguments());
        if self.mode.must_supervise() {
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
        if !self.mode.must_supervise() {
            predecessors.extend(Process::open(self.state.pid));
        }
        for process in self
            .predecessors
            .iter()
            .filter(|process| !process.has_exited())
        {
            predecessors.push(process.try_clone()?);
        }
        let inheritance = HandoffPayload {
            pid: self.state.pid,
            generation: self.state.generation,
            by: by.to_owned(),
            pid_file: self.pid_file.path().to_owned(),
            lock: self.pid_file.clone_lock()?,
            instance_key: self.state.instance_key.clone(),
            configured_key: Some(StoredKey::new(reloadable.keys.current().expose())),
            previous_key: reloadable.keys.previous().map(|previous| {
                let counts_for = u64::try_from(previous.valid_for.as_millis());
                let key = StoredKey::new(previous.secret.expose());
                (key, counts_for.unwrap_or(u64::MAX))
            }),
            checks: reloadable.health.known_checks(),
            stderr: io::stderr().as_fd().try_clone_to_owned()?,
            sockets,
            predecessors,
        };
        Ok((command, inheritance))
    }

    /// Leaves it all to the successor.
    pub fn release(self) {
        self.pid_file.disown();
    }

    /// Takes back what a successor took that did not live to tell, and notes why there is none, if that is to be known.
    pub async fn reclaim(&mut self, failure: Option<&RestartFailure>) {
        let heirs = Process::all().filter(|process| process.pid() != self.state.pid);
        let heirs: Vec<_> = heirs
            .filter(|process| self.pid_file.is_locked_by(process))
            .collect();
        for heir in heirs {
            // It may be gone already.
            let _ = heir.kill();
            let _ = tokio::time::timeout(KILL_TIMEOUT, heir.exited()).await;
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
        if let Err(error) = self.pid_file.claim() {
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
    pub async fn predecessor_exited(&mut self) {
        match self.predecessors.last() {
            // One that cannot be waited for has a deadline of its own.
            Some(process) => drop(process.exited().await),
            None => std::future::pending().await,
        }
        self.predecessors.pop();
    }

    /// Has the daemons before this one finish, and waits until they have.
    pub async fn stop_predecessors(&self) {
        for predecessor in &self.predecessors {
            // Most are gone.
            let _ = predecessor.send_signal(Signal::TERM);
        }
        for predecessor in &self.predecessors {
            // One that cannot be waited for has a deadline of its own.
            let _ = predecessor.exited().await;
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
    pub fn record_exit(self, exit: ExitRecord) {
        // Otherwise both files are another daemon's by now.
        if self.pid_file.is_in_place() {
            self.state.record_exit(self.pid_file.path(), exit);
        }
    }
}

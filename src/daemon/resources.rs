//! The resources of a daemon on the machine: its files, its sockets, and the old processes that drain.

use std::{io, mem};

use rustix::process::Signal;

use super::run_mode::RunMode;
use crate::instance::{ExitRecord, InheritedSocket, Launch, PidFile, StateFile};
use crate::sys::Process;

/// The resources of an instance, which are passed to a successor or released at exit.
pub struct InstanceResources {
    pub launch: Launch,
    pub mode: RunMode,
    pub state: StateFile,
    pub pid_file: PidFile,
    pub sockets: Vec<InheritedSocket>,
    /// Old processes that this one replaced, directly or not, and that may still drain.
    pub predecessors: Vec<Process>,
    /// PID of the first process of `fullon run`, if it supervises this one.
    pub supervisor: Option<u32>,
}

impl InstanceResources {
    /// Writes the state file, unless it belongs to another daemon by now. Logs a failure.
    pub fn write_state(&self) -> io::Result<()> {
        if !self.pid_file.is_in_place() {
            return Ok(());
        }
        let written = self.state.write(self.pid_file.path());
        written.map_err(io::Error::other).inspect_err(|error| {
            tracing::error!(%error, "cannot write the state file");
        })
    }

    /// Changes a field of the state file. Restores it if the file cannot be written, so that the
    /// next call tries again.
    pub fn update_state<T: PartialEq>(
        &mut self,
        field: fn(&mut StateFile) -> &mut T,
        value: T,
    ) -> io::Result<()> {
        let previous = mem::replace(field(&mut self.state), value);
        if *field(&mut self.state) == previous {
            return Ok(());
        }
        self.write_state()
            .inspect_err(|_| *field(&mut self.state) = previous)
    }

    /// Leaves the files to the successor.
    pub fn release(self) {
        self.pid_file.disown();
    }

    /// Returns once one of the old processes has exited, and forgets it.
    pub async fn predecessor_exited(&mut self) {
        match self.predecessors.last() {
            // A process that cannot be waited for has a deadline of its own.
            Some(process) => drop(process.exited().await),
            None => std::future::pending().await,
        }
        self.predecessors.pop();
    }

    /// Lets the old processes finish, and waits until they have.
    pub async fn stop_predecessors(&self) {
        for predecessor in &self.predecessors {
            // Most have exited already.
            let _ = predecessor.send_signal(Signal::TERM);
        }
        for predecessor in &self.predecessors {
            // A process that cannot be waited for has a deadline of its own.
            let _ = predecessor.exited().await;
        }
    }

    /// Kills the old processes that have not finished in time.
    pub fn kill_predecessors(&self) {
        for predecessor in &self.predecessors {
            // Most have exited already.
            let _ = predecessor.kill();
        }
    }

    /// Records the exit in the state file and removes the PID file, unless both belong to another
    /// daemon by now.
    pub fn record_exit(self, exit: ExitRecord) {
        if self.pid_file.is_in_place() {
            self.state.record_exit(self.pid_file.path(), exit);
        }
    }
}

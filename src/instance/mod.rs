//! What a running daemon leaves on the machine, and how others find and trust it: the locked PID file, the
//! state file beside it, the process itself, how it is run, the pipe on which a start-up is reported, and what one daemon
//! leaves to the next. The daemon writes these, the command line reads them.

mod handshake;
mod inheritance;
mod launch;
mod listener;
pub(crate) mod pid_file;
mod process;
mod state_file;

pub use handshake::{StartupReport, StartupReporter};
pub use inheritance::{HandoffPayload, InheritedSocket, SocketRole};
pub use launch::Launch;
pub use listener::find_listener;
pub use pid_file::{
    LockHolder, PidFile, PidFileError, PidFileStatus, holds_pid_file_lock, inspect_pid_file,
    read_recorded_pid,
};
pub use process::Process;
pub use state_file::{
    ExitRecord, FailedRestart, StagedStateFile, StateFile, StateFileError, StoredKey,
};

//! The files of a running daemon, and how other processes find and trust it: the
//! locked PID file, the state file, how the program is run, the report of a start-up, and the
//! handoff from one daemon to the next. The daemon writes these, the command line reads them. Also
//! what keeps a daemon from its ports.

mod admin_port;
mod bind_advice;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz_targets;
mod handoff;
mod launch;
mod pid_file;
mod startup_report;
mod state_file;
mod stored_secret;

pub use admin_port::SharedAdminPort;
pub use bind_advice::{BindAdvice, EndingConnection, Occupant};
pub use handoff::{HandoffHeader, HandoffPayload, InheritedSocket, SocketRole};
pub use launch::Launch;
pub use pid_file::{
    LockHolder, PidFile, PidFileError, PidFileStatus, describe_other_writer, held_pid_file,
    holds_pid_file_lock, inspect_pid_file, read_recorded_pid,
};
pub use startup_report::{StartupReport, StartupReporter};
pub use state_file::{
    ExitCause, ExitRecord, FailedRestart, StagedStateFile, StateFile, StateFileError,
};
pub use stored_secret::StoredSecret;

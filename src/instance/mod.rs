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

pub use handshake::{Announcement, Announcer};
pub use inheritance::{Inheritance, InheritedSocket, Role};
pub use launch::Launch;
pub use listener::listener_on;
pub use pid_file::{Holder, PidFile, PidFileError, Presence, inspect, number_in, shares_lock};
pub use process::Process;
pub use state_file::{Exit, FailedRestart, StagedState, State, StateFileError, StoredKey};

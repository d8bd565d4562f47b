//! What a running daemon leaves on the machine, and how others find and trust it: the locked PID file, the
//! state file beside it, the process itself, and the pipe on which a start-up is reported. The daemon writes these,
//! the command line reads them.

mod handshake;
mod listener;
mod pid_file;
mod process;
mod state_file;

pub use handshake::{Announcement, Announcer};
pub use listener::listener_on;
pub use pid_file::{Holder, PidFile, PidFileError, Presence, inspect};
pub use process::Process;
pub use state_file::{State, StateFileError};

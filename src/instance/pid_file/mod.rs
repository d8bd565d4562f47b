//! The PID file. A daemon runs as long as its lock on the file exists: the lock is taken with
//! `fcntl(2)`'s `F_OFD_SETLK`, and the kernel releases it however the daemon ends. The PID in the
//! file is for people and scripts. Before a command acts on a process, [`inspect_pid_file`] has
//! verified that this very process holds the lock.

mod content;
mod error;
mod lock;
mod locked_file;
mod status;
#[cfg(test)]
mod tests;

#[cfg(any(test, fuzzing))]
pub(super) use content::{format_pid, parse_pid};
pub use error::PidFileError;
pub use lock::LockHolder;
pub use locked_file::PidFile;
pub use status::{
    PidFileStatus, describe_other_writer, held_pid_file, holds_pid_file_lock, inspect_pid_file,
    read_recorded_pid,
};

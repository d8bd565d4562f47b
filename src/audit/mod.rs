//! The audit trail: a file of its own, in which each record holds the hash of the one before.
//!
//! [`AuditTrail`] records events and logs them. `file` appends records under a lock, so that both
//! processes of a restart can write, and rotates. `read` finds the last records. [`verify`] checks
//! that no record was edited, removed, added or moved. It cannot notice missing records at the end
//! without a sequence number and a hash that somebody kept: see [`Head`].

mod event;
mod file;
mod files;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz_targets;
mod read;
mod record;
mod summary;
mod trail;
mod verify;

pub use event::{Event, Outcome};
pub use file::{AuditFile, AuditFileError};
pub use files::{IgnoredFile, exists, ignored_files, trail_owner};
pub use read::last_records;
pub use record::{Head, ParseHeadError, Record, Torn};
pub use trail::{AuditStatus, AuditTrail};
pub use verify::{Report, verify};

//! The daemon from the moment it serves until it exits.

mod daemon;
mod drain;
mod event_loop;
mod ready;
mod reload;
mod replaced;
mod requests;
mod restart;

pub use daemon::{Daemon, PendingStart};
pub use drain::ExitOutcome;
pub use event_loop::run;
pub use reload::Reloadable;
pub use requests::RequestSource;

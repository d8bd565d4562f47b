//! The daemon from the moment it serves until it exits.

mod daemon;
mod drain;
mod event_loop;
mod reload;
mod replaced;
mod requests;
mod restart;

pub use daemon::Daemon;
pub use drain::ExitOutcome;
pub use event_loop::run;
pub use reload::{Reloadable, record_warnings};
pub use requests::RequestSource;

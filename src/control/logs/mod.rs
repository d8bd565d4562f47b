//! The log: through the admin API, or else from the file.

mod error;
mod follow;
mod last_lines;
mod route;

pub use error::LogsError;
pub use follow::{LogLine, LogLines};

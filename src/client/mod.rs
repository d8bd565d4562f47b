//! The APIs as typed calls, for the command line, the examples and the tests.

mod admin;
mod error;
mod events;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz_targets;
mod listener;
mod public;
mod transport;

pub use admin::{AdminClient, LogQuery, parse_base_url};
pub use error::ClientError;
pub use events::{LogEvent, LogEvents};
pub use public::{HealthError, health, readiness};
pub use reqwest::Url;

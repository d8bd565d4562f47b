//! The public and the admin HTTP server.
//!
//! `listener` accepts connections, `connection` serves each with hyper, and `http` handles their
//! requests with poem as router. `pool` knows all open connections and closes some to make room for
//! new ones.

mod api;
mod auth;
mod connection;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz_targets;
mod http;
mod limits;
mod listener;
mod log;
pub mod metrics;
mod openapi;
mod path_template;
mod pool;
mod process_usage;
mod self_check;
mod shutdown;
mod ui;

pub(crate) use api::admin::admin_document;
pub use api::public;
pub(crate) use api::public::public_document;
pub(crate) use api::{admin, control_request};
pub use http::Service;
pub use listener::{MAX_REFUSALS, run};
pub(crate) use log::LogReaderLimit;
pub use pool::{ConnectionPool, ConnectionPools};
pub use self_check::SelfCheck;
pub use shutdown::Shutdown;

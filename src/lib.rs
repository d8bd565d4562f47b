//! Fullon Master API: runs an HTTP service as a daemon, and controls it over a REST API.
//!
//! - To serve your own routes, use [`App`].
//! - To control a daemon from a program, use [`control::DaemonControl`], which falls back to the PID
//!   file, or [`client::AdminClient`], the admin API as typed calls. [`api`] has their types.
//!
//! The other modules are public for the tests and benchmarks of this crate, and may change:
//!
//! - [`config`]: settings from flags, environment and `.env`
//! - [`auth`]: tokens, sessions and scopes
//! - [`audit`]: records who changed what, in a chain of records
//! - [`logs`]: writes, searches and follows the log
//! - [`health`]: the phase of the process and the state of its dependencies
//! - [`server`]: accept loop, public API and admin API
//! - [`instance`]: PID file, state file and processes, which find a daemon and identify it
//! - [`daemon`]: starts the parts, runs them and replaces the process
//! - [`doctor`]: diagnoses a daemon, its settings and its files
//! - [`sys`]: the system calls that several modules need
//! - [`Identity`]: the name of the program, and what is derived from it; it cannot be set yet

mod app;
mod cli;
mod identity;

pub mod api;
pub mod audit;
pub mod auth;
pub mod client;
pub mod config;
pub mod control;
pub mod daemon;
pub mod doctor;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod health;
pub mod instance;
pub mod logs;
pub mod proxy;
pub mod server;
pub mod sys;
pub mod workers;

pub use app::App;
pub use identity::Identity;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;

#[cfg(doctest)]
#[doc = include_str!("../docs/applications.md")]
struct ApplicationExamples;

#[cfg(doctest)]
#[doc = include_str!("../docs/embedding.md")]
struct EmbeddingExamples;

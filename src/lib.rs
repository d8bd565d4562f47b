//! Fullon Master API: a daemon that is controlled over REST, and the tool that operates it.
//!
//! - [`config`]: settings from flags, environment and `.env`
//! - [`api`]: the types of the wire contract, for server and client
//! - [`auth`]: tokens, sessions and scopes
//! - [`logs`]: writes, searches and follows the log
//! - [`health`]: the phase of the process and the state of its dependencies
//! - [`server`]: accept loop, public API and admin API
//! - [`instance`]: PID file, state file and processes, which find a daemon and identify it
//! - [`daemon`]: starts the parts, runs them and replaces the process
//! - [`client`]: the admin API as typed calls
//! - [`control`]: operates a daemon through its API, or through its PID file
//! - [`doctor`]: diagnoses a daemon, its settings and its files
//! - [`sys`]: the system calls that several modules need
//! - [`App`]: a program with all of that and your own routes
//! - [`Identity`]: the name of the program, and what is derived from it
//!
//! `ARCHITECTURE.md` lists the allowed imports between modules.

mod app;
mod cli;
mod identity;

pub mod api;
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
pub mod server;
pub mod sys;

pub use app::App;
pub use identity::Identity;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;

#[cfg(doctest)]
#[doc = include_str!("../docs/embedding.md")]
struct EmbeddingExamples;

//! Fullon Master API: a daemon that is controlled over REST, and the tool that operates it.
//!
//! - [`config`]: settings from flags, environment and `.env`, all problems at once
//! - [`api`]: the wire contract, one type for server, client and tests
//! - [`auth`]: tokens and scopes
//! - [`logs`]: the log written, read from the end, and followed
//! - [`health`]: phase and checks
//! - [`server`]: accept loop, public and admin API
//! - [`instance`]: PID file, state file, process: how a daemon is found and trusted
//! - [`daemon`]: the composition root and its life
//! - [`client`]: the admin API as typed calls
//! - [`control`]: operates a daemon through its API, or through its PID file
//! - [`doctor`]: diagnoses a daemon, its settings and its files
//! - [`sys`]: the system calls that several modules need
//! - [`App`]: all of it around your own routes
//!
//! Who may know whom is written in `ARCHITECTURE.md`.

mod app;
mod cli;

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

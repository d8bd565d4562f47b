//! Everything that is seen from outside the crate: one program, a module a behaviour. The daemon is the built
//! binary, in a home directory of its own, on ports that were free.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test says so when something is not there"
)]

mod support;

mod admin_api;
mod audit;
mod authorisation;
mod bad_tokens;
mod browser;
mod burst;
mod changed_settings;
mod clock;
mod command_line;
mod configuration;
mod console;
mod container;
mod crash;
mod dependencies;
mod doctor;
mod documents;
mod drain;
mod drain_delay;
mod example;
mod failing_successor;
mod fallback;
mod following;
mod foreground;
mod full_disk;
mod generated_clients;
mod handover;
mod in_flight;
mod install;
mod keeper;
mod last_exit;
mod lifecycle;
mod limits;
mod log_level;
mod log_stream;
mod metrics;
mod other_sites;
mod reload;
mod rotation;
mod schemathesis;
mod secrets;
mod session;
mod sign_in;
mod soak;
mod start_errors;
mod status;
mod systemd;
mod token;
mod torture;

//! Integration tests: one program, one module per behaviour. Each test runs the built program in
//! its own home directory and on free ports.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test says so when something is not there"
)]

mod support;

mod admin_api;
mod api_unreachable;
mod app_command;
mod app_faults;
mod app_requests;
mod audit;
mod audit_disturbances;
mod audit_trail;
mod authorisation;
mod browser;
mod clock_jumps;
mod command_line;
mod compression;
mod configuration;
mod console;
mod container;
mod crash_recovery;
mod cross_origin;
mod dependencies;
mod doctor;
mod documents;
mod drain;
mod drain_delay;
mod examples;
mod failed_restart;
mod foreground;
mod foreground_restart;
mod full_disk;
mod generated_clients;
mod held_port;
mod http_messages;
mod install;
mod kill_at_random;
mod last_exit;
mod lifecycle;
mod limits;
mod listener_proof;
mod listener_states;
mod log_burst;
mod log_level;
mod log_rotation;
mod log_stream;
mod logrotate;
mod logs_follow;
mod metrics;
mod odd_networks;
mod openapi_documents;
mod other_users;
mod passed_sockets;
mod path_prefix;
mod proxied_console;
mod proxies;
mod ready;
mod rejected_tokens;
mod reload;
mod restart_in_flight;
mod restart_with_changes;
mod revocation;
mod run_application;
mod schemathesis;
mod secrets;
mod sessions;
mod sign_in;
mod smoke;
mod soak;
mod start_errors;
mod status;
mod systemd;
mod terminal;
mod token;
mod trusted_proxies;
mod zero_downtime_restart;

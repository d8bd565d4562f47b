//! The fuzz targets. Each is a function of bytes that panics if a parser of external input breaks a
//! promise. It is defined in `fuzz_targets` of the module of its parser.
//!
//! `fuzz/` has a program for each target, and the inputs that are worth keeping. The tests here run
//! all of them again.

#[cfg(test)]
mod tests;

pub use crate::audit::fuzz_targets::audit_file;
pub use crate::auth::fuzz_targets::token;
pub use crate::client::fuzz_targets::event_stream;
pub use crate::config::fuzz_targets::{database_url, env_file, redis_url, settings};
pub use crate::health::fuzz_targets::redis_reply;
pub use crate::instance::fuzz_targets::{handoff, pid_file, state_file};
pub use crate::logs::fuzz_targets::{log_cursor, log_filter, log_line, log_read_at_cursor};
pub use crate::server::fuzz_targets::{
    control_request_body, credentials, forwarded, log_level_body, log_query, log_stream_resume,
    origin_check,
};

/// Receives external input, and panics if a promise is broken.
pub type FuzzTarget = fn(&[u8]);

/// All targets, with the names of their programs and corpora.
pub const TARGETS: [(&str, FuzzTarget); 22] = [
    ("audit_file", audit_file),
    ("control_request_body", control_request_body),
    ("credentials", credentials),
    ("database_url", database_url),
    ("env_file", env_file),
    ("event_stream", event_stream),
    ("forwarded", forwarded),
    ("handoff", handoff),
    ("log_cursor", log_cursor),
    ("log_filter", log_filter),
    ("log_level_body", log_level_body),
    ("log_line", log_line),
    ("log_query", log_query),
    ("log_read_at_cursor", log_read_at_cursor),
    ("log_stream_resume", log_stream_resume),
    ("origin_check", origin_check),
    ("pid_file", pid_file),
    ("redis_reply", redis_reply),
    ("redis_url", redis_url),
    ("settings", settings),
    ("state_file", state_file),
    ("token", token),
];

/// Splits at the first newline.
pub(crate) fn split_first_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b'\n', bytes) {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => (bytes, &[]),
    }
}

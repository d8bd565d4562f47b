//! How findings describe processes.

use crate::client::parse_base_url;
use crate::sys::{Process, find_listener};

/// A clause about the process that should have answered; empty if it is not known.
pub fn describe_state(process: Option<&Process>) -> String {
    process.map_or(String::new(), |process| {
        let state = if process.is_suspended() {
            "is suspended"
        } else {
            "is running"
        };
        format!("; {} {state}", process.describe())
    })
}

/// How to make a process that does not answer respond again.
pub fn resume_hint(process: &Process) -> String {
    if process.is_suspended() {
        format!("kill -CONT {}", process.pid())
    } else {
        "unless the process is starting or stopping, or the network is blocked, it hangs: run `fullon restart --hard`"
            .into()
    }
}

/// The process that listens on the port of this URL.
pub fn describe_listener(base_url: &str) -> String {
    parse_base_url(base_url)
        .ok()
        .and_then(|url| find_listener(url.port_or_known_default()?))
        .map_or("another program".into(), |process| process.describe())
}

//! How findings describe processes.

use std::net::IpAddr;

use crate::client::parse_base_url;
use crate::sys::{Process, find_listener, is_local_address};

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

/// How to make a process that does not answer at this URL respond again.
pub fn resume_hint(process: &Process, base_url: &str) -> String {
    if process.is_suspended() {
        format!("kill -CONT {}", process.pid())
    } else if let Some(address) = missing_address(base_url) {
        format!(
            "this machine has no address {address} now: check `ip address`, or run `fullon restart`"
        )
    } else {
        "unless the process is starting or stopping, or the network is blocked, it hangs: run `fullon restart --hard`"
            .into()
    }
}

/// The address of the URL, if this machine does not have it.
fn missing_address(base_url: &str) -> Option<IpAddr> {
    let url = parse_base_url(base_url).ok()?;
    let address = url.host_str()?.trim_matches(['[', ']']).parse().ok()?;
    (!is_local_address(address)).then_some(address)
}

/// The process that listens on the port of this URL.
pub fn describe_listener(base_url: &str) -> String {
    parse_base_url(base_url)
        .ok()
        .and_then(|url| find_listener(url.port_or_known_default()?))
        .map_or("another program".into(), |process| process.describe())
}

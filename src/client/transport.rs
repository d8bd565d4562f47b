//! The common parts of the clients of both APIs.

use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder};

/// How long the daemon may take to respond.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A client that uses no proxy and follows no redirect.
pub fn http_client() -> ClientBuilder {
    Client::builder().no_proxy().redirect(Policy::none())
}

/// The innermost error, which is that of the operating system.
pub fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

//! Failed attempts to authenticate, which a restart passes on to the new process.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// The failed attempts of one client in the current minute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedAttempts {
    /// `None` for all clients that are not counted separately.
    pub client: Option<IpAddr>,
    /// Milliseconds since the first one.
    pub age_ms: u64,
    pub count: u32,
}

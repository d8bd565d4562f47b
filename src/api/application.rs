//! The workers of the application.

use poem_openapi::Object;
use serde::{Deserialize, Serialize};

/// A worker of the application.
#[derive(Debug, Clone, PartialEq, Object, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// Number of the worker, from 1. A process that replaces another one has its number.
    pub slot: u32,
    /// `starting`: it has not answered yet. `ready`: it receives requests. `stopping`: it receives no
    /// more requests, and is to exit. `backing_off`: its process has ended, and the next one starts
    /// after a delay. `crash_loop`: the last five processes ended before they had been ready for ten
    /// seconds.
    pub state: String,
    /// Process ID. Absent while no process runs.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pid: Option<u32>,
    /// Start of the process, as an RFC 3339 timestamp in UTC. Absent while no process runs.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub started_at: Option<String>,
    /// Number of processes that were started because the one before had ended.
    pub restarts: u64,
    /// Number of requests that the worker has not finished.
    pub in_flight: u64,
    /// Resident memory of the process and its descendants in bytes.
    pub rss_bytes: u64,
    /// CPU time of the process and its descendants in seconds, user and system.
    pub cpu_seconds: f64,
    /// How the process before ended. Absent when none has.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_exit: Option<String>,
}

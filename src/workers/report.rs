//! The workers as `status` shows them.

use std::time::Duration;

use jiff::Timestamp;

/// The state of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerState {
    /// Its worker is not ready yet.
    Starting,
    /// Its worker receives requests.
    Ready,
    /// Its worker has to end.
    Stopping,
    /// Its worker has died, and another one is started after a delay.
    BackingOff,
    /// Five workers in a row have died.
    CrashLoop,
}

/// A slot and its worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerReport {
    /// The number of the slot, from 1 on.
    pub slot: u16,
    pub pid: Option<u32>,
    pub state: WorkerState,
    /// When its worker was started.
    pub started: Option<Timestamp>,
    /// How many workers were started after the first one.
    pub restarts: u64,
    /// How the worker before ended.
    pub last_exit: Option<String>,
    /// Resident memory of the worker and its descendants, in bytes.
    pub memory: u64,
    /// Processor time of the worker and its descendants.
    pub cpu: Duration,
    /// Requests in flight.
    pub in_flight: usize,
}

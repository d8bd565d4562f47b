//! The workers of the application in the status.

use crate::api::WorkerStatus;
use crate::workers::{WorkerReport, WorkerState, Workers};

/// The state of each worker. Reads `/proc`, so it blocks.
pub fn worker_statuses(workers: &Workers) -> Vec<WorkerStatus> {
    let reports = workers.report();
    reports.into_iter().map(WorkerStatus::from).collect()
}

impl From<WorkerReport> for WorkerStatus {
    fn from(report: WorkerReport) -> Self {
        Self {
            slot: report.slot.into(),
            state: state_text(report.state).into(),
            pid: report.pid,
            started_at: report.started.map(|at| at.to_string()),
            restarts: report.restarts,
            in_flight: report.in_flight as u64,
            rss_bytes: report.memory,
            cpu_seconds: report.cpu.as_secs_f64(),
            last_exit: report.last_exit,
        }
    }
}

/// A text and not an enum: a generated Go client has the values of all enums in one namespace, and
/// those of the daemon's phase are the same.
fn state_text(state: WorkerState) -> &'static str {
    match state {
        WorkerState::Starting => "starting",
        WorkerState::Ready => "ready",
        WorkerState::Stopping => "stopping",
        WorkerState::BackingOff => "backing_off",
        WorkerState::CrashLoop => "crash_loop",
    }
}

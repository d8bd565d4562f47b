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
            state: report.state.into(),
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

impl From<WorkerState> for crate::api::WorkerState {
    fn from(state: WorkerState) -> Self {
        match state {
            WorkerState::Starting => Self::Starting,
            WorkerState::Ready => Self::Ready,
            WorkerState::Stopping => Self::Stopping,
            WorkerState::BackingOff => Self::BackingOff,
            WorkerState::CrashLoop => Self::CrashLoop,
        }
    }
}

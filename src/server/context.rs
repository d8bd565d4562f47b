//! What the admin API knows of the daemon, and whom it orders.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use jiff::Timestamp;
use poem::http::StatusCode;
use tokio::sync::oneshot;

use super::clients::ConnectionPool;
use super::guard::AuthState;
use super::metrics::Metrics;
use super::orders::{ControlRequest, ControlSender};
use super::problem::ApiError;
use super::readers::LogReaderLimit;
use super::shutdown::Shutdown;
use crate::api::{HttpUsage, LastExit};
use crate::config::LiveSettings;
use crate::health::Health;
use crate::logs::{LevelControl, LogBroadcaster};

type Result<T> = std::result::Result<T, ApiError>;

/// What the admin API tells and whom it orders.
pub struct AdminState {
    /// UUID of this process's life.
    pub instance: String,
    /// When the process started.
    pub started_at: Timestamp,
    /// The same on a clock that does not jump.
    pub started: Instant,
    /// Where the public server listens.
    pub public_address: SocketAddr,
    /// Where the admin server listens.
    pub admin_address: SocketAddr,
    /// 1, and one more at each zero-downtime restart.
    pub generation: u32,
    /// How the previous instance ended.
    pub last_exit: Option<LastExit>,
    /// The settings in force.
    pub live_settings: Arc<LiveSettings>,
    /// Phase and checks.
    pub health: Arc<Health>,
    /// The clients of both servers.
    pub connections: [Arc<ConnectionPool>; 2],
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What is logged.
    pub log_level: Arc<LevelControl>,
    /// What callers are checked against.
    pub auth: Arc<AuthState>,
    /// The log file, if the log goes to one.
    pub log: Option<Arc<LogBroadcaster>>,
    /// Takes what is asked for.
    pub control: ControlSender,
    /// Whether it is this process that carries out orders: not yet while it takes over.
    pub is_active: Arc<AtomicBool>,
    /// Ends streams when it begins.
    pub shutdown: Shutdown,
    /// Who reads the log for long.
    pub log_readers: LogReaderLimit,
}

impl AdminState {
    /// What both servers together do.
    pub(super) fn http_usage(&self) -> HttpUsage {
        let [public, admin] = self.connections.each_ref().map(|clients| clients.usage());
        HttpUsage {
            connections: public.connections + admin.connections,
            in_flight: public.in_flight + admin.in_flight,
            requests_total: public.requests_total + admin.requests_total,
        }
    }

    /// The log, where it is in a file.
    pub(super) fn require_log(&self) -> Result<&Arc<LogBroadcaster>> {
        self.log.as_ref().ok_or_else(|| {
            ApiError::new(
                StatusCode::CONFLICT,
                "the log goes to stdout and cannot be read back: set LOG_FILE to a file",
            )
        })
    }

    /// While one process takes over from another, both answer; only the one that owns the PID file carries out orders. Later a
    /// client that kept its connection may still ask the one that was replaced.
    pub(super) fn require_active(&self) -> Result<()> {
        let refuse = |detail| Err(ApiError::new(StatusCode::CONFLICT, detail));
        if self.shutdown.has_successor() {
            return refuse("this process was replaced and drains: ask again, on a new connection");
        }
        if !self.is_active.load(Ordering::Acquire) {
            return refuse(
                "another restart is under way, and this process is taking over: ask again",
            );
        }
        Ok(())
    }

    /// Has the order carried out, and waits for what becomes of it.
    pub(super) async fn submit<T>(
        &self,
        order: impl FnOnce(oneshot::Sender<T>) -> ControlRequest,
    ) -> Result<T> {
        let (answer, outcome) = oneshot::channel();
        // Whoever takes no more orders drops this one, and its answer with it.
        let _ = self.control.send(order(answer)).await;
        outcome.await.map_err(|_| shutting_down())
    }
}

/// The answer where orders are not taken any more.
pub(super) fn shutting_down() -> ApiError {
    let detail = "the daemon is stopping, or was replaced meanwhile: ask again";
    ApiError::new(StatusCode::CONFLICT, detail)
}

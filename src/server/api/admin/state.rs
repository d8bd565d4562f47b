//! The state of the operations of the admin API.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use poem::http::StatusCode;
use tokio::sync::oneshot;

use crate::api::{HttpUsage, LastExit};
use crate::audit::AuditTrail;
use crate::config::LiveSettings;
use crate::health::Health;
use crate::logs::{LevelControl, LogBroadcaster};
use crate::server::api::control_request::{ControlRequest, ControlSender, Reply};
use crate::server::auth::AuthState;
use crate::server::http::audit::AuditRecord;
use crate::server::http::problem::{ApiError, Result};
use crate::server::log::LogReaderLimit;
use crate::server::metrics::Metrics;
use crate::server::openapi::DocumentedError;
use crate::server::pool::ConnectionPools;
use crate::server::shutdown::Shutdown;
use crate::workers::Workers;

/// An error of [`AdminState::require_active`].
pub const NOT_ACTIVE: DocumentedError = DocumentedError::new(
    409,
    "The process was replaced, or a restart or a stop is in progress. Send the request again on a new connection.",
    "this process was replaced and drains: send the request again on a new connection",
);

/// The error of [`AdminState::require_log`].
pub const LOG_ON_STDOUT: DocumentedError = DocumentedError::new(
    409,
    "The log goes to stdout, which the API cannot read. Set `LOG_FILE` to a file and restart.",
    "the log goes to stdout, which the API cannot read: set LOG_FILE to the path of a file and restart the daemon",
);

/// The daemon as the admin API sees it.
pub struct AdminState {
    /// UUID of this process.
    pub instance: String,
    pub started_at: Timestamp,
    /// The start on the monotonic clock.
    pub started: Instant,
    pub public_address: SocketAddr,
    /// Of the other sockets of the public API.
    pub further_public_addresses: Vec<SocketAddr>,
    pub admin_address: SocketAddr,
    /// 1, incremented by each zero-downtime restart.
    pub generation: u32,
    /// How the previous instance ended.
    pub last_exit: Option<LastExit>,
    pub live_settings: Arc<LiveSettings>,
    pub health: Arc<Health>,
    /// Of the application, if there is one.
    pub workers: Option<Arc<Workers>>,
    pub connections: ConnectionPools,
    pub metrics: Arc<Metrics>,
    pub audit: Arc<AuditTrail>,
    pub log_level: Arc<LevelControl>,
    pub auth: Arc<AuthState>,
    /// `None` when the log goes to stdout.
    pub log: Option<Arc<LogBroadcaster>>,
    pub control: ControlSender,
    /// Whether this process carries out control requests. During a restart it does not yet.
    pub is_active: Arc<AtomicBool>,
    pub shutdown: Shutdown,
    pub log_readers: LogReaderLimit,
}

impl AdminState {
    /// Usage of both servers together.
    pub fn http_usage(&self) -> HttpUsage {
        let public = self.connections.public.usage();
        let admin = self.connections.admin.usage();
        HttpUsage {
            connections: public.connections + admin.connections,
            in_flight: public.in_flight + admin.in_flight,
            requests_total: public.requests_total + admin.requests_total,
        }
    }

    /// The log.
    ///
    /// # Errors
    ///
    /// 409 when the log goes to stdout.
    pub fn require_log(&self) -> Result<&Arc<LogBroadcaster>> {
        self.log
            .as_ref()
            .ok_or_else(|| ApiError::from(&LOG_ON_STDOUT))
    }

    /// Checks that no other process has replaced this one. That one has the sessions, and the
    /// streams of the log.
    ///
    /// # Errors
    ///
    /// 409 from the replaced process.
    pub fn require_not_replaced(&self) -> Result<()> {
        if self.shutdown.has_successor() {
            return Err(ApiError::from(&NOT_ACTIVE));
        }
        Ok(())
    }

    /// Checks that this process carries out control requests.
    ///
    /// During a restart both processes respond, but only the owner of the PID file acts.
    /// Afterwards, clients with an open connection may still reach the old process.
    ///
    /// # Errors
    ///
    /// 409 from the other process.
    pub fn require_active(&self) -> Result<()> {
        self.require_not_replaced()?;
        if !self.is_active.load(Ordering::Acquire) {
            return Err(ApiError::new(
                StatusCode::CONFLICT,
                "a restart is in progress, and this process is taking over: send the request again",
            ));
        }
        Ok(())
    }

    /// Carries out a change: records it in the audit trail, with its timeout, and returns the reply
    /// of the daemon.
    ///
    /// # Errors
    ///
    /// 409 when this process does not carry out control requests.
    pub async fn carry_out<T>(
        &self,
        audit: &AuditRecord,
        timeout: Option<Duration>,
        request: impl FnOnce(Reply<T>) -> ControlRequest,
    ) -> Result<T> {
        self.require_active()?;
        audit.accepted(timeout);
        submit(&self.control, request).await
    }
}

/// Sends a control request to the daemon and waits for the reply.
///
/// # Errors
///
/// 409 when the daemon accepts no more requests.
pub async fn submit<T>(
    control: &ControlSender,
    request: impl FnOnce(Reply<T>) -> ControlRequest,
) -> Result<T> {
    let (reply, outcome) = oneshot::channel();
    // A closed channel drops the request, and its reply with it.
    let _ = control.send(request(reply.into())).await;
    outcome.await.map_err(|_| {
        ApiError::new(
            StatusCode::CONFLICT,
            "the daemon is stopping or was replaced: send the request again on a new connection",
        )
    })
}

/// The state that the operations share. It is empty in the service that only generates the OpenAPI
/// document.
#[derive(Clone, Default)]
pub struct StateHandle(Option<Arc<AdminState>>);

impl StateHandle {
    pub fn new(state: Arc<AdminState>) -> Self {
        Self(Some(state))
    }

    pub fn get(&self) -> Result<&Arc<AdminState>> {
        self.0.as_ref().ok_or_else(|| {
            ApiError::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "this API has no daemon: it only provides its OpenAPI document",
            )
        })
    }
}

//! The process: how it is doing, and what becomes of it.

use std::sync::Arc;
use std::time::Duration;

use poem::http::StatusCode;
use poem::web::Data;
use poem_openapi::OpenApi;

use super::{Result, StateHandle, Tag};
use crate::api::{
    DEFAULT_RESTART_TIMEOUT, MAX_TIMEOUT_SECONDS, MIN_RESTART_TIMEOUT_SECONDS, Phase, RestartDone,
    RestartRequest, SERVICE_NAME, Status, StopAccepted, StopRequest, VERSION, base_url,
};
use crate::server::audit::AuditRecord;
use crate::server::blocking::run_blocking;
use crate::server::guard::{Auth, Control, Read};
use crate::server::metrics::MetricsText;
use crate::server::orders::{
    ControlRequest, RestartCommand, RestartFailure, RestartFailureKind, StopCommand,
};
use crate::server::payload::{Accepted, JsonResponse, OptionalJsonBody};
use crate::server::problem::ApiError;
use crate::server::usage;

/// Operations on the process.
pub struct DaemonApi(pub StateHandle);

#[OpenApi]
impl DaemonApi {
    /// How the daemon is doing.
    #[oai(
        path = "/admin/status",
        method = "get",
        operation_id = "get_status",
        tag = "Tag::Daemon"
    )]
    async fn status(&self, _caller: Auth<Read>) -> Result<JsonResponse<Status>> {
        let context = self.0.get()?;
        let server = base_url(context.public_address);
        let settings = context.live_settings.settings();
        let in_force = Arc::clone(&context.live_settings);
        let (pending_restart, process) =
            run_blocking(move || (in_force.pending(), usage::read())).await?;
        Ok(JsonResponse(Status {
            service: SERVICE_NAME.into(),
            version: VERSION.into(),
            phase: context.health.phase(),
            pid: std::process::id(),
            instance: context.instance.clone(),
            generation: context.generation,
            started_at: context.started_at.to_string(),
            uptime_seconds: context.started.elapsed().as_secs_f64(),
            docs: format!("{server}/docs"),
            health: format!("{server}/health"),
            server,
            admin: base_url(context.admin_address),
            pid_file: settings.pid_file.display().to_string(),
            log_file: settings
                .log
                .target
                .file()
                .map_or_else(|| "-".into(), |path| path.display().to_string()),
            log_level: context.log_level.status().filter,
            process,
            http: context.http_usage(),
            checks: context.health.checks(),
            pending_restart,
            last_exit: context.last_exit.clone(),
        }))
    }

    /// Figures for Prometheus, in its text format 0.0.4.
    #[oai(
        path = "/admin/metrics",
        method = "get",
        operation_id = "get_metrics",
        tag = "Tag::Daemon"
    )]
    async fn metrics(&self, _caller: Auth<Read>) -> Result<MetricsText> {
        MetricsText::scrape(self.0.get()?)
            .await
            .map_err(|error| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
    }

    /// Stop the daemon.
    ///
    /// It drains: health says 503; after DRAIN_DELAY listeners close, streams end, and requests in flight are finished, at
    /// most until the deadline. A second order changes nothing. 409 from a process that is being replaced, or was: ask again, on a new connection.
    #[oai(
        path = "/admin/stop",
        method = "post",
        operation_id = "stop",
        tag = "Tag::Daemon"
    )]
    async fn stop(
        &self,
        caller: Auth<Control>,
        audit: Data<&Arc<AuditRecord>>,
        body: OptionalJsonBody<StopRequest>,
    ) -> Result<Accepted<StopAccepted>> {
        let context = self.0.get()?;
        let settings = context.live_settings.settings();
        let timeout = match body.0.and_then(|order| order.timeout_seconds) {
            None => settings.shutdown_timeout,
            Some(seconds) => parse_timeout(seconds, 0.0)?,
        };
        context.require_active()?;
        let order = ControlRequest::Stop(StopCommand {
            subject: caller.claims.subject,
            timeout,
        });
        if context.control.send(order).await.is_ok() {
            audit.accepted(Some(timeout));
            // Before anybody reads the answer, and also while a successor is waited for that will not be.
            context.health.enter(Phase::Draining);
        } else {
            // Nobody takes orders any more once it drains: because it stops already, or was replaced.
            context.require_active()?;
            audit.accepted(None);
        }
        let deadline = context
            .shutdown
            .set_deadline(settings.drain_delay + timeout);
        Ok(Accepted(StopAccepted {
            phase: Phase::Draining,
            pid: std::process::id(),
            in_flight: context.http_usage().in_flight.saturating_sub(1),
            deadline: deadline.at.to_string(),
            seconds_left: Some(deadline.remaining().as_secs_f64()),
        }))
    }

    /// Replace the daemon, without refusing or losing a request.
    ///
    /// The successor is the program now on disk with the settings now in `.env`. It takes over the listening sockets, and
    /// the answer comes once it serves; then this process drains. If it does not serve in time, or says why it cannot, this
    /// process goes on as before and the answer tells: 422 for settings that are not valid, 504 for one that was too slow,
    /// 500 for anything else. 409 while another restart or a stop is under way.
    #[oai(
        path = "/admin/restart",
        method = "post",
        operation_id = "restart",
        tag = "Tag::Daemon"
    )]
    async fn restart(
        &self,
        caller: Auth<Control>,
        audit: Data<&Arc<AuditRecord>>,
        body: OptionalJsonBody<RestartRequest>,
    ) -> Result<JsonResponse<RestartDone>> {
        let context = self.0.get()?;
        let timeout = match body.0.and_then(|order| order.timeout_seconds) {
            None => DEFAULT_RESTART_TIMEOUT,
            Some(seconds) => parse_timeout(seconds, MIN_RESTART_TIMEOUT_SECONDS)?,
        };
        context.require_active()?;
        audit.accepted(Some(timeout));
        let order = |answer| {
            ControlRequest::Restart(RestartCommand {
                subject: caller.claims.subject,
                timeout,
                reply: answer,
            })
        };
        let done = context.submit(order).await?;
        Ok(JsonResponse(
            done.map_err(|failure| ApiError::from(&failure))?,
        ))
    }
}

fn parse_timeout(seconds: f64, least: f64) -> Result<Duration> {
    if (least..=MAX_TIMEOUT_SECONDS).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        let reason = format!("is not from {least} to {MAX_TIMEOUT_SECONDS}");
        Err(ApiError::invalid_parameter("timeout_seconds", reason))
    }
}

impl From<&RestartFailure> for ApiError {
    fn from(failure: &RestartFailure) -> Self {
        let status = match failure.kind {
            RestartFailureKind::Busy => StatusCode::CONFLICT,
            RestartFailureKind::InvalidSettings => StatusCode::UNPROCESSABLE_ENTITY,
            RestartFailureKind::StartFailed => StatusCode::INTERNAL_SERVER_ERROR,
            RestartFailureKind::TimedOut => StatusCode::GATEWAY_TIMEOUT,
        };
        Self::new(status, failure.reason.as_str())
    }
}

//! The process: how it is doing, and what becomes of it.

use std::sync::Arc;
use std::time::Duration;

use poem::http::StatusCode;
use poem::web::Data;
use poem_openapi::OpenApi;

use super::{Described, Result, Tag};
use crate::api::{
    MAX_TIMEOUT, MIN_SUCCESSOR_TIMEOUT, Phase, RestartDone, RestartRequest, SERVICE,
    SUCCESSOR_TIMEOUT, Status, StopAccepted, StopRequest, VERSION, base_url,
};
use crate::server::audit::Audit;
use crate::server::blocking::blocking;
use crate::server::guard::{Authorized, Control, Read};
use crate::server::metrics::Exposition;
use crate::server::orders::{Order, RestartFailure, RestartFailureKind, RestartOrder, StopOrder};
use crate::server::payload::{Accepted, Json, OptionalBody};
use crate::server::problem::Failure;
use crate::server::usage;

/// Operations on the process.
pub struct DaemonApi(pub Described);

#[OpenApi]
impl DaemonApi {
    /// How the daemon is doing.
    #[oai(
        path = "/admin/status",
        method = "get",
        operation_id = "get_status",
        tag = "Tag::Daemon"
    )]
    async fn status(&self, _caller: Authorized<Read>) -> Result<Json<Status>> {
        let context = self.0.context()?;
        let server = base_url(context.public);
        let settings = context.in_force.settings();
        let in_force = Arc::clone(&context.in_force);
        let (pending_restart, process) =
            blocking(move || (in_force.pending(), usage::read())).await?;
        Ok(Json(Status {
            service: SERVICE.into(),
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
            admin: base_url(context.admin),
            pid_file: settings.pid_file.display().to_string(),
            log_file: settings
                .log
                .target
                .file()
                .map_or_else(|| "-".into(), |path| path.display().to_string()),
            log_level: context.level.now().filter,
            process,
            http: context.usage(),
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
    async fn metrics(&self, _caller: Authorized<Read>) -> Result<Exposition> {
        Exposition::of(self.0.context()?)
            .await
            .map_err(|error| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
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
        caller: Authorized<Control>,
        audit: Data<&Arc<Audit>>,
        body: OptionalBody<StopRequest>,
    ) -> Result<Accepted<StopAccepted>> {
        let context = self.0.context()?;
        let settings = context.in_force.settings();
        let timeout = match body.0.and_then(|order| order.timeout_seconds) {
            None => settings.shutdown_timeout,
            Some(seconds) => timeout_of(seconds, 0.0)?,
        };
        context.refuse_unless_in_charge()?;
        let order = Order::Stop(StopOrder {
            subject: caller.claims.subject,
            timeout,
        });
        if context.orders.send(order).await.is_ok() {
            audit.accepted(Some(timeout));
            // Before anybody reads the answer, and also while a successor is waited for that will not be.
            context.health.enter(Phase::Draining);
        } else {
            // Nobody takes orders any more once it drains: because it stops already, or was replaced.
            context.refuse_unless_in_charge()?;
            audit.accepted(None);
        }
        let deadline = context.shutdown.due_within(settings.drain_delay + timeout);
        Ok(Accepted(StopAccepted {
            phase: Phase::Draining,
            pid: std::process::id(),
            in_flight: context.usage().in_flight.saturating_sub(1),
            deadline: deadline.at.to_string(),
            seconds_left: Some(deadline.left().as_secs_f64()),
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
        caller: Authorized<Control>,
        audit: Data<&Arc<Audit>>,
        body: OptionalBody<RestartRequest>,
    ) -> Result<Json<RestartDone>> {
        let context = self.0.context()?;
        let timeout = match body.0.and_then(|order| order.timeout_seconds) {
            None => SUCCESSOR_TIMEOUT,
            Some(seconds) => timeout_of(seconds, MIN_SUCCESSOR_TIMEOUT)?,
        };
        context.refuse_unless_in_charge()?;
        audit.accepted(Some(timeout));
        let order = |answer| {
            Order::Restart(RestartOrder {
                subject: caller.claims.subject,
                timeout,
                answer,
            })
        };
        let done = context.ordered(order).await?;
        Ok(Json(done.map_err(|failure| Failure::from(&failure))?))
    }
}

fn timeout_of(seconds: f64, least: f64) -> Result<Duration> {
    if (least..=MAX_TIMEOUT).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        let reason = format!("is not from {least} to {MAX_TIMEOUT}");
        Err(Failure::bad_parameter("timeout_seconds", reason))
    }
}

impl From<&RestartFailure> for Failure {
    fn from(failure: &RestartFailure) -> Self {
        let status = match failure.kind {
            RestartFailureKind::Busy => StatusCode::CONFLICT,
            RestartFailureKind::Settings => StatusCode::UNPROCESSABLE_ENTITY,
            RestartFailureKind::Failed => StatusCode::INTERNAL_SERVER_ERROR,
            RestartFailureKind::Late => StatusCode::GATEWAY_TIMEOUT,
        };
        Self::new(status, failure.reason.as_str())
    }
}

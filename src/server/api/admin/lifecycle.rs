//! Stop and restart.

use std::sync::Arc;
use std::time::Duration;

use poem::http::StatusCode;
use poem::web::Data;
use poem_openapi::OpenApi;

use super::seconds::parse_seconds;
use super::settings::INVALID_SETTINGS;
use super::state::{NOT_ACTIVE, StateHandle, submit};
use super::tag::AdminTag;
use crate::api::{
    DaemonPhase, MAX_TIMEOUT_SECONDS, MIN_RESTART_TIMEOUT_SECONDS, RestartRequest, RestartResult,
    StopRequest, StopResult,
};
use crate::auth::Claims;
use crate::config::{APP_COMMAND, AppCommand, InvalidSettings, SettingProblem};
use crate::health;
use crate::identity::identity;
use crate::server::api::control_request::{
    ControlRequest, RestartCommand, RestartFailure, RestartFailureKind, StopCommand,
};
use crate::server::auth::{Auth, AuthorizedBody, Control};
use crate::server::http::audit::AuditRecord;
use crate::server::http::json::JsonResponse;
use crate::server::http::problem::{ApiError, Result};
use crate::server::openapi::{DocumentedError, Operation};

const TIMED_OUT: DocumentedError = DocumentedError::new(
    504,
    "The new process was not ready within the timeout. Nothing has changed.",
    "the new process did not serve within 30s",
);

pub const OPERATIONS: [Operation; 2] = [
    Operation::change("stop_daemon", "stop", &[NOT_ACTIVE]),
    Operation::change(
        "restart_daemon",
        "restart",
        &[NOT_ACTIVE, INVALID_SETTINGS, TIMED_OUT],
    ),
];

pub struct LifecycleApi(pub StateHandle);

#[OpenApi]
impl LifecycleApi {
    /// Stop the daemon.
    ///
    /// The daemon drains: `/health` responds with 503, listeners close after `DRAIN_DELAY`, streams
    /// end, and requests in flight finish until the deadline. Then the process exits. The response
    /// comes at once. A second request changes nothing.
    #[oai(
        path = "/admin/stop",
        method = "post",
        operation_id = "stop_daemon",
        tag = "AdminTag::Daemon"
    )]
    async fn stop_daemon(
        &self,
        caller: Auth<Control>,
        audit: Data<&Arc<AuditRecord>>,
        body: AuthorizedBody<Control, Option<StopRequest>>,
    ) -> Result<JsonResponse<StopResult, 202>> {
        let state = self.0.get()?;
        let settings = state.live_settings.settings();
        let timeout = match body.0.and_then(|request| request.timeout_seconds) {
            None => settings.shutdown_timeout,
            Some(seconds) => parse_timeout(seconds, 0.0)?,
        };
        state.require_active()?;
        let request = ControlRequest::Stop(StopCommand {
            by: caller.claims.subject,
            timeout: Some(timeout),
            is_signal: false,
            is_immediate: false,
        });
        audit.accepted(Some(timeout));
        if state.control.send(request).await.is_ok() {
            // Takes effect before the client reads the response, also while a restart is being
            // cancelled.
            state.health.enter(health::Phase::Draining);
        } else {
            // The channel is closed once this process drains, because it stops or was replaced.
            state.require_active()?;
        }
        let deadline = state.shutdown.set_deadline(settings.stop_timeout(timeout));
        Ok(JsonResponse(StopResult {
            phase: DaemonPhase::Draining,
            pid: std::process::id(),
            in_flight: state.http_usage().in_flight.saturating_sub(1),
            deadline: deadline.at.to_string(),
            seconds_left: Some(deadline.remaining().as_secs_f64()),
        }))
    }

    /// Restart the daemon without downtime.
    ///
    /// Starts the program that is on disk with the settings that are in `.env`, and hands the
    /// listening sockets to it. The response comes once the new process serves; then the old
    /// process drains. No connection is refused, and no request is lost that ends within
    /// `SHUTDOWN_TIMEOUT`; longer ones are cut off. If the new process fails, nothing has changed,
    /// and the problem gives the reason: 422 for invalid settings, 504 for a timeout, 500 for other
    /// failures, 409 while another restart or a stop is in progress.
    #[oai(
        path = "/admin/restart",
        method = "post",
        operation_id = "restart_daemon",
        tag = "AdminTag::Daemon"
    )]
    async fn restart_daemon(
        &self,
        caller: Auth<Control>,
        audit: Data<&Arc<AuditRecord>>,
        body: AuthorizedBody<Control, Option<RestartRequest>>,
    ) -> Result<JsonResponse<RestartResult>> {
        let state = self.0.get()?;
        let body = body.0.unwrap_or_default();
        let timeout = body
            .timeout_seconds
            .map(|seconds| parse_timeout(seconds, MIN_RESTART_TIMEOUT_SECONDS))
            .transpose()?;
        let app_command = body
            .command
            .map(|words| parse_app_command(&caller.claims, words))
            .transpose()?;
        state.require_active()?;
        audit.restart_accepted(timeout, app_command.as_ref());
        let request = |reply| {
            ControlRequest::Restart(RestartCommand {
                by: caller.claims.subject,
                timeout,
                app_command,
                reply,
            })
        };
        let restarted = submit(&state.control, request).await?;
        Ok(JsonResponse(
            restarted.map_err(|failure| ApiError::from(&failure))?,
        ))
    }
}

fn parse_timeout(seconds: f64, min: f64) -> Result<Duration> {
    parse_seconds("timeout_seconds", seconds, min..=MAX_TIMEOUT_SECONDS)
}

/// The command of the application. A control token may stop and restart the daemon, but it must not
/// run another program: only a command line may, which holds a key of the daemon.
fn parse_app_command(caller: &Claims, words: Vec<String>) -> Result<AppCommand> {
    if !caller.is_of_command() && caller.request.is_none() {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            format!(
                "`command` is accepted from `{} restart -- COMMAND…` only",
                identity().command
            ),
        ));
    }
    AppCommand::new(words).map_err(|message| {
        let setting = APP_COMMAND.into();
        ApiError::invalid_configuration(&InvalidSettings(vec![SettingProblem { setting, message }]))
    })
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

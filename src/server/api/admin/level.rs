//! The log level.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::OpenApi;

use super::seconds::parse_seconds;
use super::state::{NOT_ACTIVE, StateHandle};
use super::tag::AdminTag;
use crate::api::{LogLevelRequest, LogLevelStatus, MAX_REVERT_SECONDS};
use crate::config::{LOG_FILTER_FORM, parse_log_filter};
use crate::logs::{self, LevelStatus};
use crate::server::auth::{Auth, AuthorizedBody, Control, Read};
use crate::server::http::audit::AuditRecord;
use crate::server::http::json::JsonResponse;
use crate::server::http::problem::{ApiError, Result};
use crate::server::openapi::Operation;

pub const OPERATIONS: [Operation; 2] = [
    Operation::query("get_log_level", &[]),
    Operation::change("set_log_level", "log_level", &[NOT_ACTIVE]),
];

pub struct LevelApi(pub StateHandle);

#[expect(clippy::unused_async, reason = "operations of poem-openapi are async")]
#[OpenApi]
impl LevelApi {
    /// Get the log level.
    ///
    /// Returns the active log level, the configured one, and when the level reverts.
    #[oai(
        path = "/admin/log-level",
        method = "get",
        operation_id = "get_log_level",
        tag = "AdminTag::Log"
    )]
    async fn log_level(&self, _caller: Auth<Read>) -> Result<JsonResponse<LogLevelStatus>> {
        Ok(JsonResponse(LogLevelStatus::from(
            self.0.get()?.log_level.status(),
        )))
    }

    /// Change the log level.
    ///
    /// The level reverts to the configured one after `revert_after_seconds`. Without it, the level
    /// lasts until the next restart, or until a reload with another `LOG_LEVEL`. The audit trail is
    /// logged at every level; directives for the target `audit` are rejected.
    #[oai(
        path = "/admin/log-level",
        method = "put",
        operation_id = "set_log_level",
        tag = "AdminTag::Log"
    )]
    async fn set_log_level(
        &self,
        _caller: Auth<Control>,
        audit: Data<&Arc<AuditRecord>>,
        body: AuthorizedBody<Control, LogLevelRequest>,
    ) -> Result<JsonResponse<LogLevelStatus>> {
        let state = self.0.get()?;
        let LogLevelRequest {
            level,
            revert_after_seconds,
        } = body.0;
        let filter = parse_log_filter(&level)
            .map_err(|_| ApiError::invalid_value("level", &level, LOG_FILTER_FORM))?;
        if logs::names_audit(&filter) {
            return Err(ApiError::invalid_field(
                "level",
                "cannot contain a directive for `audit`: set that in LOG_LEVEL",
            ));
        }
        let duration = revert_after_seconds
            .map(|seconds| parse_seconds("revert_after_seconds", seconds, 1.0..=MAX_REVERT_SECONDS))
            .transpose()?;
        state.require_active()?;
        audit.level_accepted(&filter, duration);
        state
            .log_level
            .set_override(&filter, duration)
            .map_err(|error| ApiError::invalid_field("level", error.to_string()))?;
        Ok(JsonResponse(LogLevelStatus::from(state.log_level.status())))
    }
}

impl From<LevelStatus> for LogLevelStatus {
    fn from(now: LevelStatus) -> Self {
        Self {
            level: now.filter,
            configured_level: now.configured,
            revert_after_seconds: now.reverts_in.map(|left| left.as_secs_f64()),
        }
    }
}

//! What is logged, for now or for good.

use std::sync::Arc;
use std::time::Duration;

use poem::web::Data;
use poem_openapi::OpenApi;

use super::{Described, Result, Tag};
use crate::api::{LogLevel, LogLevelRequest, MAX_REVERT};
use crate::config::parse_log_filter;
use crate::logs::{self, LevelNow};
use crate::server::audit::Audit;
use crate::server::guard::{Authorized, Control, Read};
use crate::server::payload::{Json, RequiredBody};
use crate::server::problem::Failure;

/// Operations on the log level.
pub struct LevelApi(pub Described);

#[expect(clippy::unused_async, reason = "operations of poem-openapi are async")]
#[OpenApi]
impl LevelApi {
    /// What is logged.
    #[oai(
        path = "/admin/log-level",
        method = "get",
        operation_id = "get_log_level",
        tag = "Tag::Log"
    )]
    async fn log_level(&self, _caller: Authorized<Read>) -> Result<Json<LogLevel>> {
        Ok(Json(LogLevel::from(self.0.context()?.level.now())))
    }

    /// Log more or less, for a while.
    ///
    /// After `revert_after_seconds` the configured level is in force again by itself; without, it is after the next restart, or
    /// a reload of another `LOG_LEVEL`. The audit trail is logged at every level, and none names `audit`. 409 from a process that is being replaced, or
    /// was.
    #[oai(
        path = "/admin/log-level",
        method = "put",
        operation_id = "set_log_level",
        tag = "Tag::Log"
    )]
    async fn set_log_level(
        &self,
        _caller: Authorized<Control>,
        audit: Data<&Arc<Audit>>,
        body: RequiredBody<LogLevelRequest>,
    ) -> Result<Json<LogLevel>> {
        let context = self.0.context()?;
        let LogLevelRequest {
            level,
            revert_after_seconds,
        } = body.0;
        let filter =
            parse_log_filter(&level).map_err(|reason| Failure::bad_parameter("level", reason))?;
        if logs::names_audit(&filter) {
            return Err(Failure::bad_parameter(
                "level",
                "names `audit`: how much of the trail of changes is logged is for LOG_LEVEL to say",
            ));
        }
        let time = match revert_after_seconds {
            None => None,
            Some(seconds) if (1.0..=MAX_REVERT).contains(&seconds) => {
                Some(Duration::from_secs_f64(seconds))
            }
            Some(_) => {
                let reason = format!("is not from 1 to {MAX_REVERT}");
                return Err(Failure::bad_parameter("revert_after_seconds", reason));
            }
        };
        context.refuse_unless_in_charge()?;
        audit.accepted_for_level(&filter, time);
        context
            .level
            .change(&filter, time)
            .map_err(|error| Failure::bad_parameter("level", error.to_string()))?;
        Ok(Json(LogLevel::from(context.level.now())))
    }
}

impl From<LevelNow> for LogLevel {
    fn from(now: LevelNow) -> Self {
        Self {
            level: now.filter,
            configured_level: now.configured,
            revert_after_seconds: now.left.map(|left| left.as_secs_f64()),
        }
    }
}

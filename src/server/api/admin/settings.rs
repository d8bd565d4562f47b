//! The settings.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::OpenApi;

use super::state::{NOT_ACTIVE, StateHandle};
use super::tag::AdminTag;
use crate::api::{ReloadResult, SettingEntry};
use crate::server::api::control_request::{ControlRequest, ReloadCommand};
use crate::server::auth::{Auth, Control, Read};
use crate::server::http::audit::AuditRecord;
use crate::server::http::json::JsonResponse;
use crate::server::http::problem::{ApiError, Result};
use crate::server::openapi::{DocumentedError, Operation};

/// The settings of the daemon's environment cannot be loaded.
pub const INVALID_SETTINGS: DocumentedError = DocumentedError::new(
    422,
    "The settings are invalid. Nothing has changed. `errors` lists every error.",
    "invalid configuration: PORT: `99999` is not a port number from 0 to 65535, where 0 picks a free port (environment)",
);

pub const OPERATIONS: [Operation; 2] = [
    Operation::query("get_settings", &[]),
    Operation::change("reload_settings", "reload", &[NOT_ACTIVE, INVALID_SETTINGS]),
];

pub struct SettingsApi(pub StateHandle);

#[expect(clippy::unused_async, reason = "operations of poem-openapi are async")]
#[OpenApi]
impl SettingsApi {
    /// List the active settings.
    ///
    /// Returns every setting with its active value and the source of the value. Secrets are masked
    /// as `******`.
    #[oai(
        path = "/admin/config",
        method = "get",
        operation_id = "get_settings",
        tag = "AdminTag::Settings"
    )]
    async fn settings(&self, _caller: Auth<Read>) -> Result<JsonResponse<Vec<SettingEntry>>> {
        let settings = self.0.get()?.live_settings.settings();
        let entries = settings.entries().iter().map(SettingEntry::from);
        Ok(JsonResponse(entries.collect()))
    }

    /// Reload the settings.
    ///
    /// Reads the environment and `.env` again and validates all settings. If one is invalid,
    /// nothing changes. Otherwise the log level, log rotation, secrets, database and Redis
    /// settings, `SHUTDOWN_TIMEOUT` and `DRAIN_DELAY` are active at once, and the log file is
    /// reopened. Other changed settings are not active until `fullon restart`; the result lists
    /// them.
    #[oai(
        path = "/admin/reload",
        method = "post",
        operation_id = "reload_settings",
        tag = "AdminTag::Settings"
    )]
    async fn reload_settings(
        &self,
        caller: Auth<Control>,
        audit: Data<&Arc<AuditRecord>>,
    ) -> Result<JsonResponse<ReloadResult>> {
        let state = self.0.get()?;
        let request = |reply| {
            ControlRequest::Reload(ReloadCommand {
                by: caller.claims.subject,
                reply,
            })
        };
        let reloaded = state.carry_out(&audit, None, request).await?;
        Ok(JsonResponse(reloaded.map_err(|problems| {
            ApiError::invalid_configuration(&problems)
        })?))
    }
}

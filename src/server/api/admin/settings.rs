//! The settings.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::OpenApi;

use super::state::{NOT_ACTIVE, StateHandle};
use super::tag::AdminTag;
use crate::api::{ReloadDone, SettingEntry};
use crate::server::api::control_request::{ControlRequest, ReloadCommand};
use crate::server::auth::{Auth, Control, Read};
use crate::server::http::audit::AuditRecord;
use crate::server::http::json::JsonResponse;
use crate::server::http::problem::{ApiError, Result};
use crate::server::openapi::{DocumentedError, Operation};

/// The settings of the daemon's environment cannot be loaded.
pub const INVALID_SETTINGS: DocumentedError = DocumentedError::new(
    422,
    "The settings are not valid, and nothing has changed.",
    "invalid configuration: PORT: `99999` is not a port number (0 to 65535, 0 for any free one) (environment)",
);

pub const OPERATIONS: [Operation; 2] = [
    Operation::query("get_config", &[]),
    Operation::change("reload", "reload", &[NOT_ACTIVE, INVALID_SETTINGS]),
];

pub struct SettingsApi(pub StateHandle);

#[expect(clippy::unused_async, reason = "operations of poem-openapi are async")]
#[OpenApi]
impl SettingsApi {
    /// Every setting in force, secrets masked, and where it came from.
    #[oai(
        path = "/admin/config",
        method = "get",
        operation_id = "get_config",
        tag = "AdminTag::Settings"
    )]
    async fn config(&self, _caller: Auth<Read>) -> Result<JsonResponse<Vec<SettingEntry>>> {
        let settings = self.0.get()?.live_settings.settings();
        let entries = settings.entries().iter().map(SettingEntry::from);
        Ok(JsonResponse(entries.collect()))
    }

    /// Read the settings again.
    ///
    /// They are validated first: an invalid file changes nothing, and the answer is 422 with everything that is wrong in
    /// `errors`. What can change in place is in force then (log level, rotation, secrets, databases, SHUTDOWN_TIMEOUT, DRAIN_DELAY), and
    /// the log file is opened anew; the rest is named and waits for a restart. 409 when the daemon is stopping or was replaced
    /// meanwhile.
    #[oai(
        path = "/admin/reload",
        method = "post",
        operation_id = "reload",
        tag = "AdminTag::Settings"
    )]
    async fn reload(
        &self,
        caller: Auth<Control>,
        audit: Data<&Arc<AuditRecord>>,
    ) -> Result<JsonResponse<ReloadDone>> {
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

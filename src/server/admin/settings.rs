//! What the daemon was told at its start, and since.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::OpenApi;

use super::{Result, StateHandle, Tag};
use crate::api::{ReloadDone, SettingEntry};
use crate::server::audit::AuditRecord;
use crate::server::guard::{Auth, Control, Read};
use crate::server::orders::{ControlRequest, ReloadCommand};
use crate::server::payload::JsonResponse;
use crate::server::problem::ApiError;

/// Operations on the settings.
pub struct SettingsApi(pub StateHandle);

#[expect(clippy::unused_async, reason = "operations of poem-openapi are async")]
#[OpenApi]
impl SettingsApi {
    /// Every setting in force, secrets masked, and where it came from.
    #[oai(
        path = "/admin/config",
        method = "get",
        operation_id = "get_config",
        tag = "Tag::Settings"
    )]
    async fn config(&self, _caller: Auth<Read>) -> Result<JsonResponse<Vec<SettingEntry>>> {
        Ok(JsonResponse(
            self.0.get()?.live_settings.settings().entries().to_vec(),
        ))
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
        tag = "Tag::Settings"
    )]
    async fn reload(
        &self,
        caller: Auth<Control>,
        audit: Data<&Arc<AuditRecord>>,
    ) -> Result<JsonResponse<ReloadDone>> {
        let context = self.0.get()?;
        context.require_active()?;
        audit.accepted(None);
        let order = |answer| {
            ControlRequest::Reload(ReloadCommand {
                subject: caller.claims.subject,
                reply: answer,
            })
        };
        let done = context.submit(order).await?;
        Ok(JsonResponse(done.map_err(|problems| {
            ApiError::invalid_configuration(&problems)
        })?))
    }
}

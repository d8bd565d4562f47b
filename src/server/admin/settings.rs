//! What the daemon was told at its start, and since.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::OpenApi;

use super::{Described, Result, Tag};
use crate::api::{ReloadDone, SettingEntry};
use crate::server::audit::Audit;
use crate::server::guard::{Authorized, Control, Read};
use crate::server::orders::{Order, ReloadOrder};
use crate::server::payload::Json;
use crate::server::problem::Failure;

/// Operations on the settings.
pub struct SettingsApi(pub Described);

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
    async fn config(&self, _caller: Authorized<Read>) -> Result<Json<Vec<SettingEntry>>> {
        Ok(Json(
            self.0.context()?.in_force.settings().entries().to_vec(),
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
        caller: Authorized<Control>,
        audit: Data<&Arc<Audit>>,
    ) -> Result<Json<ReloadDone>> {
        let context = self.0.context()?;
        context.refuse_unless_in_charge()?;
        audit.accepted(None);
        let order = |answer| {
            Order::Reload(ReloadOrder {
                subject: caller.claims.subject,
                answer,
            })
        };
        let done = context.ordered(order).await?;
        Ok(Json(done.map_err(|problems| {
            Failure::invalid_configuration(&problems)
        })?))
    }
}

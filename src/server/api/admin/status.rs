//! The status of the daemon.

use std::path::Path;
use std::sync::Arc;

use poem_openapi::OpenApi;
use tokio::task::spawn_blocking;

use super::state::StateHandle;
use super::tag::AdminTag;
use super::worker_status::worker_statuses;
use crate::api::{AuditState, DaemonStatus, HealthCheck, VERSION, base_url};
use crate::audit::{ignored_files, trail_owner};
use crate::config::root_warning;
use crate::identity::identity;
use crate::server::auth::{Auth, Read};
use crate::server::http::compress::Compressible;
use crate::server::http::json::JsonResponse;
use crate::server::http::problem::Result;
use crate::server::openapi::Operation;
use crate::server::process_usage;

pub const OPERATIONS: [Operation; 1] = [Operation::query("get_status", &[])];

pub struct StatusApi(pub StateHandle);

#[OpenApi]
impl StatusApi {
    /// Get the status of the daemon.
    ///
    /// Returns the process, its addresses and files, usage, health checks, settings that wait for a
    /// restart, warnings, and how the previous process ended.
    #[oai(
        path = "/admin/status",
        method = "get",
        operation_id = "get_status",
        tag = "AdminTag::Daemon"
    )]
    async fn status(
        &self,
        _caller: Auth<Read>,
    ) -> Result<Compressible<JsonResponse<DaemonStatus>>> {
        let state = self.0.get()?;
        let server = base_url(state.public_address);
        let settings = state.live_settings.settings();
        let live_settings = Arc::clone(&state.live_settings);
        let auth = Arc::clone(&state.auth);
        let audit = Arc::clone(&state.audit);
        let workers = state.workers.clone();
        let (pending_restart, warnings, process, workers) = spawn_blocking(move || {
            let sources = live_settings.location().read_sources();
            let warnings = sources.warnings().iter().map(ToString::to_string);
            let revocations = auth.keyring.revocations_problem();
            let revocations = revocations.map(|it| it.to_string());
            let ignored = audit.path().and_then(ignored_warning);
            let rotation = audit.status().and_then(|audit| audit.rotation_error);
            let of_audit = ignored.into_iter().chain(rotation);
            let root = root_warning(std::process::id()).map(|it| it.to_string());
            let warnings = warnings.chain(revocations).chain(of_audit).chain(root);
            let warnings = warnings.collect();
            (
                live_settings.pending(&sources),
                warnings,
                process_usage::read(),
                workers.map_or_else(Vec::new, |it| worker_statuses(&it)),
            )
        })
        .await?;
        let status = DaemonStatus {
            service: identity().service.into(),
            version: VERSION.into(),
            phase: state.health.phase().into(),
            pid: std::process::id(),
            instance: state.instance.clone(),
            generation: state.generation,
            started_at: state.started_at.to_string(),
            uptime_seconds: state.started.elapsed().as_secs_f64(),
            docs: if settings.app.is_some() {
                format!("{}/admin/docs", base_url(state.admin_address))
            } else {
                format!("{server}/docs")
            },
            health: format!("{server}/health"),
            server,
            listens_on: [state.public_address]
                .iter()
                .chain(&state.further_public_addresses)
                .map(ToString::to_string)
                .collect(),
            admin: base_url(state.admin_address),
            pid_file: settings.pid_file.display().to_string(),
            log_file: settings
                .log
                .target
                .file()
                .map_or_else(|| "-".into(), |path| path.display().to_string()),
            audit: state.audit.status().map(|audit| AuditState {
                file: state
                    .audit
                    .path()
                    .map_or_else(String::new, |path| path.display().to_string()),
                seq: audit.head.seq,
                hash: audit.head.hash,
                error: audit.error,
            }),
            log_level: state.log_level.status().filter,
            process,
            http: state.http_usage(),
            public_requests: state.metrics.requests.totals("public"),
            log_followers: state.log.as_ref().map_or(0, |log| log.follower_count()),
            app_command: settings.app.as_ref().map(|app| app.command.to_string()),
            workers,
            checks: state
                .health
                .checks()
                .into_iter()
                .map(HealthCheck::from)
                .collect(),
            pending_restart,
            warnings,
            last_exit: state.last_exit.clone(),
        };
        Ok(Compressible(JsonResponse(status)))
    }
}

/// The first file with the name of a rotated audit file that is not part of the trail.
fn ignored_warning(audit_file: &Path) -> Option<String> {
    let ignored = ignored_files(audit_file, trail_owner(audit_file, None));
    ignored.first().map(ToString::to_string)
}

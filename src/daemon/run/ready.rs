//! The end of a start-up: reports that the daemon serves, and takes over what only one process may
//! do.

use std::time::Duration;

use sd_notify::NotifyState;

use super::daemon::{Daemon, PendingStart};
use super::reload::record_warnings;
use crate::api::VERSION;
use crate::daemon::supervise::systemd;
use crate::daemon::upgrade::ParentLink;
use crate::health::Phase;
use crate::instance::{StartupReport, StartupReporter};
use crate::server::{SelfCheck, Shutdown};

impl Daemon {
    /// Reports that the daemon serves. Must be called within a tokio runtime.
    pub fn finish_start(&mut self, start: PendingStart, reporter: &mut Option<StartupReporter>) {
        self.reloadable.health.enter(Phase::Ready);
        let sources = self.reloadable.live_settings.location().read_sources();
        record_warnings(&sources, &self.reloadable.audit);
        let state = &self.resources.state;
        tracing::info!(
            version = VERSION,
            pid = state.pid,
            generation = state.generation,
            server = state.server,
            admin = state.admin,
            "ready"
        );
        // The log shows the start before `fullon start` returns.
        self.reloadable.log.flush(Duration::from_secs(1));
        if let Some(reporter) = reporter.take() {
            reporter.send(&StartupReport::Ready {
                pid: state.pid,
                server: state.server.clone(),
                admin: state.admin.clone(),
            });
        }
        tokio::spawn(run_exclusive_tasks(
            start.parent_link,
            self.reloadable.log.rotation_switch(),
            start.self_check,
            self.shutdown.clone(),
        ));
    }
}

/// Once the old process has released them, takes over log rotation and the watchdog.
async fn run_exclusive_tasks(
    parent_link: Option<ParentLink>,
    set_rotation: impl Fn(bool) + Send,
    self_check: SelfCheck,
    shutdown: Shutdown,
) {
    match parent_link {
        // The old process has notified systemd that this one is the main process, and ready.
        Some(link) => link.parent_released().await,
        None => systemd::notify(&[NotifyState::Ready, NotifyState::Status("serving")]),
    }
    // If this process was replaced meanwhile, they are its successor's.
    if shutdown.has_successor() {
        return;
    }
    set_rotation(true);
    systemd::run_watchdog(&self_check, &shutdown).await;
}

//! A daemon that serves, and the requests that do not end it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::task::TaskTracker;

use super::reload::Reloadable;
use super::requests::RequestSource;
use crate::api::start_timeout;
use crate::auth::{Claims, RevokeError};
use crate::config::Settings;
use crate::daemon::resources::InstanceResources;
use crate::daemon::signals::SignalAction;
use crate::daemon::upgrade::ParentLink;
use crate::server::admin::AdminState;
use crate::server::control_request::{
    ReloadCommand, RevokeAllCommand, RevokeAllOutcome, SessionCommand,
};
use crate::server::{SelfCheck, Shutdown};
use crate::sys::blocking;

/// A daemon that serves.
pub struct Daemon {
    pub requests: RequestSource,
    pub reloadable: Reloadable,
    pub resources: InstanceResources,
    /// Set until the application is ready for the first time.
    pub pending_start: Option<PendingStart>,
    pub shutdown: Shutdown,
    pub servers: TaskTracker,
    /// The state of the admin API.
    pub admin: Arc<AdminState>,
}

/// A start-up whose application is not ready yet.
pub struct PendingStart {
    /// The old process, in a zero-downtime restart.
    pub parent_link: Option<ParentLink>,
    pub self_check: SelfCheck,
}

impl Daemon {
    /// How long a successor may take until it serves. Its settings decide, if they are valid.
    pub fn restart_timeout(&self) -> Duration {
        let live = &self.reloadable.live_settings;
        let edited = Settings::load(&live.location().read_sources());
        let app = match &edited {
            Ok(settings) => settings.app.clone(),
            Err(_) => live.settings().app.clone(),
        };
        start_timeout(app.as_ref())
    }

    /// Reloads the settings. From the state file `fullon stop` learns how long a stop may take now.
    pub fn reload(&mut self, command: ReloadCommand) {
        self.reloadable.handle_reload(command);
        let settings = self.reloadable.live_settings.settings();
        let stop_timeout = Some(settings.stop_timeout(settings.shutdown_timeout));
        // The next reload tries again.
        let _ = self
            .resources
            .update_state(|state| &mut state.stop_timeout, stop_timeout);
        self.record_key();
    }

    /// A command revokes the tokens of this key when no daemon runs.
    fn record_key(&mut self) {
        let recorded = Some(self.reloadable.keys.recorded());
        let saved = self
            .resources
            .update_state(|state| &mut state.signing_key, recorded);
        if let Err(error) = saved {
            tracing::warn!(%error, "cannot record the signing key in the state file");
        }
    }

    /// Records that there is a file of revoked tokens, for the next process.
    pub fn record_revocations(&mut self) {
        let is_present = self.reloadable.keys.revocations().was_present();
        // A failure is logged, and the next change tries again.
        let _ = self
            .resources
            .update_state(|state| &mut state.has_revocations, is_present);
    }

    /// Reopens the log file if an external rotation has renamed it.
    pub fn reopen_log(&self) {
        // Before the event, which is then in the new file.
        self.reloadable.log.reopen();
        tracing::info!(
            by = SignalAction::ReopenLog.signal_name(),
            "reopened the log file"
        );
    }

    /// Ends sessions for this process and its successors, and saves new ones.
    pub fn update_sessions(&mut self, command: SessionCommand) {
        for id in command.ended {
            self.reloadable.sessions.end(id);
        }
        command.reply.send(self.save_sessions());
    }

    /// Revokes all tokens of the configured key, and ends all sessions. Replaces the key if this
    /// program made it. Does not wait for another process that changes the list.
    pub fn revoke_all(&mut self, command: RevokeAllCommand) {
        let has_given_up = |caller: &Claims| {
            // The clock may have been set back. The command has revoked its token then.
            caller.expires_at <= Timestamp::now() || self.admin.auth.refuses(caller)
        };
        if command.command.as_deref().is_some_and(has_given_up) {
            return command.reply.send(None);
        }
        command.audit.revocation_accepted("all");
        command.reply.send(Some(blocking(|| self.try_revoke_all())));
    }

    fn try_revoke_all(&mut self) -> Result<RevokeAllOutcome, RevokeError> {
        let Reloadable {
            keys,
            sessions,
            live_settings,
            ..
        } = &self.reloadable;
        let settings = live_settings.settings();
        let has_own_key = settings.jwt_secret.is_none();
        let before = sessions.list();
        let result = keys.revoke_all(has_own_key.then_some(settings.key_file.as_path()));
        let result = match result {
            Err(error) if !error.has_revoked() => return Err(error),
            other => other,
        };
        let sessions = sessions.end_all(&before);
        self.record_key();
        // A failure is logged. The sessions are also revoked by their age.
        let _ = self.save_sessions();
        Ok(RevokeAllOutcome {
            revoked: result?,
            sessions,
        })
    }

    /// Writes the sessions to the state file for the next process.
    pub fn save_sessions(&mut self) -> io::Result<()> {
        let sessions = self.reloadable.sessions.stored();
        self.resources
            .update_state(|state| &mut state.sessions, sessions)
    }
}

//! A daemon that serves, and the requests that do not end it.

use std::io;

use tokio_util::task::TaskTracker;

use super::reload::Reloadable;
use super::requests::RequestSource;
use crate::daemon::resources::InstanceResources;
use crate::server::Shutdown;
use crate::server::control_request::{ReloadCommand, SignOutCommand};

/// A daemon that serves.
pub struct Daemon {
    pub requests: RequestSource,
    pub reloadable: Reloadable,
    pub resources: InstanceResources,
    pub shutdown: Shutdown,
    pub servers: TaskTracker,
}

impl Daemon {
    /// Reloads the settings. A changed `DRAIN_DELAY` is written to the state file, from which
    /// `fullon stop` learns how long a stop may take.
    pub fn reload(&mut self, command: ReloadCommand) {
        self.reloadable.handle_reload(command);
        let delay = self.reloadable.live_settings.settings().drain_delay;
        if self.resources.state.drain_delay == delay {
            return;
        }
        let previous = std::mem::replace(&mut self.resources.state.drain_delay, delay);
        if let Err(error) = self.resources.write_state() {
            tracing::error!(%error, "the state file could not be written");
            // The next reload tries again.
            self.resources.state.drain_delay = previous;
        }
    }

    /// Ends a session for this process and its successors.
    pub fn end_session(&mut self, command: SignOutCommand) {
        self.reloadable.sessions.revoke(&command.session);
        let saved = self.save_revoked_sessions();
        command.reply.send(saved);
    }

    /// Writes the revoked sessions to the state file for the next process, also those that were
    /// revoked because there were too many.
    pub fn save_revoked_sessions(&mut self) -> io::Result<()> {
        let revoked = self.reloadable.sessions.revoked();
        if self.resources.state.revoked_sessions == revoked {
            return Ok(());
        }
        let previous = std::mem::replace(&mut self.resources.state.revoked_sessions, revoked);
        self.resources.write_state().inspect_err(|error| {
            tracing::error!(%error, "the state file could not be written");
            // The next call tries again.
            self.resources.state.revoked_sessions = previous;
        })
    }
}

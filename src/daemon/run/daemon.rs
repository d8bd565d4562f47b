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
        // The next reload tries again.
        let _ = self
            .resources
            .update_state(|state| &mut state.drain_delay, delay);
    }

    /// Ends a session for this process and its successors.
    pub fn end_session(&mut self, command: SignOutCommand) {
        self.reloadable.sessions.revoke(&command.session);
        command.reply.send(self.save_revoked_sessions());
    }

    /// Writes the revoked sessions to the state file for the next process, also those that were
    /// revoked because there were too many.
    pub fn save_revoked_sessions(&mut self) -> io::Result<()> {
        let revoked = self.reloadable.sessions.revoked();
        self.resources
            .update_state(|state| &mut state.revoked_sessions, revoked)
    }
}

//! A daemon that serves, and the requests that do not end it.

use std::io;

use tokio_util::task::TaskTracker;

use super::reload::Reloadable;
use super::requests::RequestSource;
use crate::daemon::resources::InstanceResources;
use crate::server::Shutdown;
use crate::server::control_request::{ReloadCommand, SessionCommand};

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

    /// Ends sessions for this process and its successors, and saves new ones.
    pub fn update_sessions(&mut self, command: SessionCommand) {
        if let Some(id) = command.ended {
            self.reloadable.sessions.end(id);
        }
        command.reply.send(self.save_sessions());
    }

    /// Writes the sessions to the state file for the next process.
    pub fn save_sessions(&mut self) -> io::Result<()> {
        let sessions = self.reloadable.sessions.stored();
        self.resources
            .update_state(|state| &mut state.sessions, sessions)
    }
}

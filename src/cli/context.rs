//! Context of every command: the daemon to operate, and where its settings are.

use std::collections::BTreeMap;

use super::error::{CommandError, Result};
use super::output::notice;
use crate::config::{self, ClientSettings, SettingsLocation};
use crate::control::DaemonControl;
use crate::instance::Launch;

pub struct CommandContext {
    pub admin_url: Option<String>,
    pub location: SettingsLocation,
}

impl CommandContext {
    /// The daemon to operate. Problems of settings that are not needed to find it are only printed.
    pub fn control(&self) -> Result<DaemonControl> {
        let settings = ClientSettings::load(&self.location.read_sources())?;
        for problem in &settings.ignored_problems {
            notice(&format!("ignored by this command: {problem}"));
        }
        self.control_for(settings)
    }

    pub fn control_for(&self, settings: ClientSettings) -> Result<DaemonControl> {
        DaemonControl::new(settings, self.admin_url.as_deref(), &user_name())
            .map_err(|error| CommandError::Usage(error.to_string()))
    }

    pub fn launch(&self) -> Result<Launch> {
        Ok(Launch {
            program: Launch::current_program()?,
            settings_location: self.location.clone(),
            environment: BTreeMap::new(),
        })
    }
}

/// The user of this process, for the audit trail.
pub fn user_name() -> String {
    config::user_name(nix::unistd::getuid().as_raw())
}

/// Runs the client side of a command.
pub fn block_on<T>(future: impl Future<Output = T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(future))
}

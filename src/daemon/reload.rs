//! Reading the settings again: validated first, then all of them or none.

use std::sync::Arc;

use sd_notify::NotifyState;

use super::requests::Reload;
use super::{configured_key, systemd};
use crate::api::ReloadDone;
use crate::auth::{Keyring, Sessions};
use crate::config::{InForce, Problem, Problems, Settings};
use crate::logs::InstalledLog;

/// What a reload changes.
pub struct Reloadable {
    pub in_force: Arc<InForce>,
    pub log: InstalledLog,
    pub keyring: Arc<Keyring>,
    pub sessions: Arc<Sessions>,
    /// Whether the settings have to suit a daemon in the background.
    pub is_in_background: bool,
}

impl Reloadable {
    pub fn carry_out(&self, reload: Reload) {
        systemd::notify_reloading();
        let outcome = self.reload();
        let by = reload.by;
        match &outcome {
            Ok(done) => {
                let names = |changes: &[crate::api::SettingChange]| {
                    let names: Vec<_> = changes.iter().map(|change| &*change.name).collect();
                    names.join(" ")
                };
                tracing::info!(
                    by,
                    changed = names(&done.changed),
                    needs_restart = names(&done.needs_restart),
                    "reloaded"
                );
            }
            Err(problems) => {
                tracing::error!(by, %problems, "nothing was reloaded");
            }
        }
        systemd::notify(&[NotifyState::Ready]);
        reload.answer.give(outcome);
    }

    fn reload(&self) -> Result<ReloadDone, Problems> {
        let settings = Settings::load(&self.in_force.origin().sources())?;
        if self.is_in_background {
            settings.check_background()?;
        }
        let wrong = |setting: &str, error: &dyn std::error::Error| {
            Problems(vec![Problem {
                setting: setting.into(),
                message: error.to_string(),
            }])
        };
        let key = configured_key(&settings).map_err(|error| wrong("JWT_SECRET_KEY", &error))?;
        self.log
            .adjust(&settings.log)
            .map_err(|error| wrong("LOG_LEVEL", &error))?;
        self.keyring.configure(&key);
        self.sessions.configure(&key);
        self.log.reopen();
        Ok(self.in_force.adopt(settings))
    }
}

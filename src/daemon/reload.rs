//! Reading the settings again: validated first, then all of them or none.

use std::sync::Arc;

use jiff::Timestamp;
use sd_notify::NotifyState;

use super::requests::Reload;
use super::systemd;
use crate::api::{ReloadDone, SettingChange};
use crate::auth::{ConfiguredKeys, Sessions, read_key_file};
use crate::config::{InForce, MASK, Problem, Problems, Settings};
use crate::health::Health;
use crate::logs::InstalledLog;
use crate::server::metrics::Metrics;

const TOKEN_SECRET: &str = "JWT_SECRET_KEY";

/// What a reload changes.
pub struct Reloadable {
    pub in_force: Arc<InForce>,
    pub log: InstalledLog,
    pub keys: Arc<ConfiguredKeys>,
    pub sessions: Arc<Sessions>,
    pub health: Arc<Health>,
    /// Whether the settings have to suit a daemon in the background.
    pub is_in_background: bool,
    pub metrics: Arc<Metrics>,
}

impl Reloadable {
    pub fn carry_out(&self, reload: Reload) {
        systemd::notify_reloading();
        let outcome = self.reload();
        self.metrics.reloaded(outcome.is_ok());
        let by = reload.by;
        match &outcome {
            Ok(done) => {
                let names = |changes: &[SettingChange]| {
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
        let wrong = |setting: &str, message| {
            Problems(vec![Problem {
                setting: setting.into(),
                message,
            }])
        };
        let key = match &settings.jwt_secret {
            Some(secret) => Ok(secret.clone()),
            None => read_key_file(&settings.key_file),
        };
        let key = key.map_err(|error| {
            let next = if error.is_missing() {
                "; put it back, or `fullon restart` makes another"
            } else {
                ""
            };
            wrong(TOKEN_SECRET, format!("{error}{next}"))
        })?;
        self.log
            .adjust(&settings.log)
            .map_err(|error| wrong("LOG_LEVEL", error.to_string()))?;
        self.log.reopen();
        let grace = settings.key_grace;
        let mut done = self.in_force.adopt(settings);
        let settings = self.in_force.settings();
        // The service is up as far as anybody knows.
        self.health.depend_on(&settings.dependencies, &[], true);
        if self.keys.change(&key, grace) {
            note_secret(&mut done);
            done.previous_key_counts_until = (!grace.is_zero())
                .then(|| Timestamp::now().checked_add(grace).ok())
                .flatten()
                .map(|until| until.to_string());
        }
        Ok(done)
    }
}

/// Notes that tokens are signed with another key, which may be in the key file and not in the settings.
fn note_secret(done: &mut ReloadDone) {
    if done
        .changed
        .iter()
        .all(|change| change.name != TOKEN_SECRET)
    {
        done.changed.push(SettingChange {
            name: TOKEN_SECRET.to_owned(),
            from: Some(MASK.to_owned()),
            to: Some(MASK.to_owned()),
        });
    }
}

//! Reloads the settings. They are validated first; then all of them are applied, or none.

use std::sync::Arc;

use jiff::Timestamp;
use sd_notify::NotifyState;

use crate::api::{ReloadResult, SettingChange};
use crate::audit::{AuditTrail, Event, Outcome};
use crate::auth::{ConfiguredKeys, SessionStore, read_key_file};
use crate::config::{
    InvalidSettings, LiveSettings, MASK, Secret, SettingProblem, SettingWarningKind, Settings,
    Sources,
};
use crate::daemon::application::Application;
use crate::daemon::supervise::systemd;
use crate::health::Health;
use crate::identity::identity;
use crate::logs::InstalledLog;
use crate::server::control_request::ReloadCommand;
use crate::server::metrics::Metrics;

const SECRET_SETTING: &str = "JWT_SECRET_KEY";

/// The parts of the daemon that a reload changes.
pub struct Reloadable {
    pub live_settings: Arc<LiveSettings>,
    pub log: InstalledLog,
    pub audit: Arc<AuditTrail>,
    pub keys: Arc<ConfiguredKeys>,
    pub sessions: Arc<SessionStore>,
    pub health: Arc<Health>,
    /// Whether the settings must be valid for a daemon in the background.
    pub is_background: bool,
    pub metrics: Arc<Metrics>,
    pub application: Option<Arc<Application>>,
}

impl Reloadable {
    /// Reloads the settings, logs the outcome, and replies to the client.
    pub fn handle_reload(&self, command: ReloadCommand) {
        systemd::notify_reloading();
        let outcome = self.reload();
        self.metrics.count_reload(outcome.is_ok());
        let by = command.by;
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
                tracing::error!(by, %problems, "reload failed; nothing has changed");
            }
        }
        systemd::notify(&[NotifyState::Ready]);
        command.reply.send(outcome);
    }

    fn reload(&self) -> Result<ReloadResult, InvalidSettings> {
        let sources = self.live_settings.location().read_sources();
        let settings = Settings::load_for_daemon(&sources, self.is_background)?;
        record_warnings(&sources, &self.audit);
        let key = self.signing_key(&settings)?;
        self.log
            .apply_settings(&settings.log)
            .map_err(|error| invalid("LOG_LEVEL", error.to_string()))?;
        self.log.reopen();
        let grace = settings.key_grace;
        let mut done = ReloadResult::from(self.live_settings.apply(settings));
        let settings = self.live_settings.settings();
        if let (Some(application), Some(app)) = (&self.application, &settings.app) {
            application.workers.apply(app.clone());
        }
        // A dependency with new settings is presumed up until its first probe.
        self.health
            .watch_dependencies(&settings.dependencies, &[], true);
        let key_file = settings.key_file.clone();
        self.keys
            .set_key_file(settings.jwt_secret.is_none().then_some(key_file));
        if self.keys.rotate(&key, grace) {
            record_key_change(&mut done);
            done.previous_key_valid_until = (!grace.is_zero())
                .then(|| Timestamp::now().checked_add(grace).ok())
                .flatten()
                .map(|until| until.to_string());
        }
        Ok(done)
    }

    /// The key of tokens. Unlike a start, a reload does not create a key file.
    fn signing_key(&self, settings: &Settings) -> Result<Secret, InvalidSettings> {
        let key = match &settings.jwt_secret {
            Some(secret) => {
                let checked = self.keys.revocations().check_key(secret);
                checked.map(|()| secret.clone())
            }
            None => read_key_file(&settings.key_file),
        };
        key.map_err(|error| {
            let next = if error.is_missing() {
                format!(
                    "; restore the file, or create a new key with `{} restart`",
                    identity().command
                )
            } else {
                String::new()
            };
            invalid(SECRET_SETTING, format!("{error}{next}"))
        })
    }
}

/// Logs the weaknesses of the settings, and records them in the audit trail.
pub fn record_warnings(sources: &Sources, audit: &AuditTrail) {
    for warning in sources.warnings() {
        tracing::warn!("{warning}");
        if warning.kind != SettingWarningKind::ExposedSecret {
            continue;
        }
        // The settings are used nevertheless.
        let mut event = Event::new("exposed_secret", Outcome::Accepted);
        event.reason = Some(format!("{}: {}", warning.subject, warning.message));
        audit.record(&event);
    }
}

fn invalid(setting: &str, message: String) -> InvalidSettings {
    InvalidSettings(vec![SettingProblem {
        setting: setting.into(),
        message,
    }])
}

/// Lists the key among the changes if it is not: it may be in the key file instead of the settings.
fn record_key_change(done: &mut ReloadResult) {
    if done
        .changed
        .iter()
        .all(|change| change.name != SECRET_SETTING)
    {
        done.changed.push(SettingChange {
            name: SECRET_SETTING.to_owned(),
            from: Some(MASK.to_owned()),
            to: Some(MASK.to_owned()),
        });
    }
}

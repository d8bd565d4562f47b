//! The active settings of a running daemon.

use std::sync::{Arc, PoisonError, RwLock};

use super::changes::{RawValues, SettingChanges};
use super::location::SettingsLocation;
use super::settings::Settings;
use super::sources::Sources;

/// The active settings, and where they were read from.
#[derive(Debug)]
pub struct LiveSettings {
    location: SettingsLocation,
    settings: RwLock<Arc<Settings>>,
}

impl LiveSettings {
    /// Starts with settings that were read from `location`.
    #[must_use]
    pub fn new(location: SettingsLocation, settings: Settings) -> Self {
        Self {
            location,
            settings: RwLock::new(Arc::new(settings)),
        }
    }

    /// The active settings.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Where the settings are read from.
    #[must_use]
    pub fn location(&self) -> &SettingsLocation {
        &self.location
    }

    /// Names of the settings that differ in `edited` and are not active. Their new values may be
    /// invalid.
    #[must_use]
    pub fn pending(&self, edited: &Sources) -> Vec<String> {
        let now = RawValues::from_sources(edited);
        let settings = self.settings();
        let changed = settings.raw_values().changed(&now);
        changed.map(|definition| definition.name.into()).collect()
    }

    /// Activates the reloadable settings of `new`, and returns all differences.
    pub fn apply(&self, new: Settings) -> SettingChanges {
        let old = self.settings();
        let changes = old.raw_values().changes(new.raw_values());
        let merged = Arc::new(old.with_reloadable_of(new));
        *self
            .settings
            .write()
            .unwrap_or_else(PoisonError::into_inner) = merged;
        changes
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;
    use crate::config::{DEFINITIONS, EnvFileChoice, Flags, InvalidSettings, SettingValue};

    /// Settings that make the others matter.
    const BASE: [(&str, &str); 4] = [
        ("DB_NAME", "app"),
        ("REDIS_HOST", "cache"),
        ("PORT", "1"),
        ("APP_COMMAND", "serve {fd}"),
    ];
    /// A valid value for each setting that differs from its default and from [`BASE`].
    const OTHER_VALUES: [(&str, &str); 50] = [
        ("HOST", "127.0.0.1"),
        ("PORT", "9000"),
        ("ADMIN_HOST", "::1"),
        ("ADMIN_PORT", "9001"),
        ("ADMIN_ORIGINS", "https://fullon.example"),
        ("TRUSTED_PROXIES", "10.0.0.0/8"),
        ("APP_COMMAND", "serve {port}"),
        ("APP_DIRECTORY", "/tmp"),
        ("APP_WORKERS", "2"),
        ("APP_READY_PATH", "/ready"),
        ("APP_START_TIMEOUT", "1s"),
        ("APP_STOP_TIMEOUT", "1s"),
        ("APP_TIMEOUT", "0"),
        ("APP_QUEUE_TIMEOUT", "1s"),
        ("LOG_LEVEL", "DEBUG"),
        ("LOG_FORMAT", "json"),
        ("LOG_FILE", "/tmp/other.log"),
        ("LOG_MAX_SIZE", "1MiB"),
        ("LOG_KEEP", "1"),
        ("LOG_MODE", "0640"),
        ("AUDIT_FILE", "/tmp/other.audit"),
        ("PID_FILE", "/tmp/other.pid"),
        ("SHUTDOWN_TIMEOUT", "1s"),
        ("DRAIN_DELAY", "1s"),
        ("JWT_SECRET_KEY", "an obviously made-up secret of the tests"),
        ("JWT_SECRET_KEY_GRACE", "1m"),
        ("FAILED_TOKENS_PER_MINUTE", "1"),
        ("HEADER_TIMEOUT", "1s"),
        ("BODY_TIMEOUT", "1s"),
        ("IDLE_TIMEOUT", "1s"),
        ("MAX_HEADER_SIZE", "8KiB"),
        ("MAX_BODY_SIZE", "1KiB"),
        ("MAX_CONNECTIONS", "1"),
        ("ADMIN_MAX_CONNECTIONS", "1"),
        ("DATABASE_URL", "postgres://db.example"),
        ("DB_HOST", "db.example"),
        ("DB_PORT", "1"),
        ("DB_USER", "nobody else"),
        ("DB_PASSWORD", "secret"),
        ("DB_NAME", "other"),
        ("DB_SSLMODE", "require"),
        ("REDIS_URL", "redis://cache/3"),
        ("REDIS_HOST", "other"),
        ("REDIS_PORT", "1"),
        ("REDIS_USERNAME", "me"),
        ("REDIS_PASSWORD", "secret"),
        ("REDIS_DB", "1"),
        ("REDIS_TLS", "on"),
        ("CHECK_INTERVAL", "10s"),
        ("CHECK_TIMEOUT", "2s"),
    ];
    /// Settings whose value is a certificate file. The test has no such file.
    const CERTIFICATE_FILES: [&str; 6] = [
        "DB_SSLROOTCERT",
        "DB_SSLCERT",
        "DB_SSLKEY",
        "REDIS_CACERT",
        "REDIS_CERT",
        "REDIS_KEY",
    ];

    fn load(change: Option<(&str, &str)>) -> Result<Settings, InvalidSettings> {
        let values = BASE.into_iter().chain(change);
        let flags: Flags = values
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let file = EnvFileChoice::Explicit("/dev/null".into());
        let sources = Sources::read(&flags, &file, Path::new("/"), &BTreeMap::new());
        Settings::load(&sources)
    }

    /// Fails with the place to change after a row was added to the table.
    #[test]
    fn every_setting_is_loaded_and_reloaded_as_declared() {
        let before = load(None).unwrap();
        for definition in &DEFINITIONS {
            let name = definition.name;
            if CERTIFICATE_FILES.contains(&name) {
                let error = load(Some((name, "/nowhere"))).unwrap_err().to_string();
                assert!(error.contains(name), "no `load` reads {name}");
                continue;
            }
            let (_, value) = OTHER_VALUES
                .into_iter()
                .find(|(known, _)| *known == name)
                .unwrap_or_else(|| panic!("OTHER_VALUES has no value for {name}"));
            let after = load(Some((name, value))).unwrap();
            assert!(before.has_other_values(&after), "no `load` reads {name}");

            let live = LiveSettings::new(SettingsLocation::default(), before.clone());
            live.apply(after.clone());
            let (expected, action) = if definition.is_reloadable {
                (&after, "take")
            } else {
                (&before, "not take")
            };
            assert!(
                *live.settings() == *expected,
                "`with_reloadable_of` must {action} {name} from the new settings"
            );
        }
    }

    /// The words that completions offer.
    #[test]
    fn offered_words_are_valid() {
        for definition in &DEFINITIONS {
            let SettingValue::OneOf(words) = definition.value else {
                continue;
            };
            for word in words {
                // A mode may need another setting.
                let errors = load(Some((definition.name, word))).err();
                let refused = format!("{}: `{word}`", definition.name);
                let errors = errors.map_or(String::new(), |errors| errors.to_string());
                assert!(!errors.contains(&refused), "{errors}");
            }
        }
    }
}

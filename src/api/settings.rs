//! Settings.

use poem_openapi::Object;
use serde::{Deserialize, Serialize};

use crate::config;

/// A setting, its active value and the source of the value.
#[derive(Debug, Clone, PartialEq, Eq, Object, Serialize, Deserialize)]
pub struct SettingEntry {
    /// Name of the setting, as in the environment and in `.env`.
    pub name: String,
    /// Active value. `******` for a secret. Absent when the setting has no value.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub value: Option<String>,
    /// Source of the value: `flag`, `command line of start` (of `APP_COMMAND`), `environment`, the path
    /// of a file, `default`, or `not set`.
    pub source: String,
}

/// Changes that a reload found: those that are active now, and those that need a restart.
#[derive(Debug, Clone, Default, Object, Serialize, Deserialize)]
pub struct ReloadResult {
    /// Settings whose new values are active now.
    pub changed: Vec<SettingChange>,
    /// Settings whose new values are not active until `fullon restart`. `PID_FILE` needs a stop and a
    /// start.
    pub needs_restart: Vec<SettingChange>,
    /// End of the grace period of the previous signing key, as an RFC 3339 timestamp in UTC. Absent
    /// unless `JWT_SECRET_KEY` was changed and `JWT_SECRET_KEY_GRACE` is not 0.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub previous_key_valid_until: Option<String>,
}

/// A setting whose value has changed.
#[derive(Debug, Clone, PartialEq, Eq, Object, Serialize, Deserialize)]
pub struct SettingChange {
    /// Name of the setting, as in the environment and in `.env`.
    pub name: String,
    /// Old value. `******` for a secret. Absent when there was none.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub from: Option<String>,
    /// New value. `******` for a secret. Absent when there is none.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub to: Option<String>,
}

impl From<&config::SettingEntry> for SettingEntry {
    fn from(entry: &config::SettingEntry) -> Self {
        Self {
            name: entry.name.into(),
            value: entry.value.clone(),
            source: entry.source.clone(),
        }
    }
}

impl From<config::SettingChange> for SettingChange {
    fn from(change: config::SettingChange) -> Self {
        Self {
            name: change.name.into(),
            from: change.from,
            to: change.to,
        }
    }
}

impl From<config::SettingChanges> for ReloadResult {
    fn from(changes: config::SettingChanges) -> Self {
        let wire = |changes: Vec<config::SettingChange>| {
            changes.into_iter().map(SettingChange::from).collect()
        };
        Self {
            changed: wire(changes.applied),
            needs_restart: wire(changes.needs_restart),
            previous_key_valid_until: None,
        }
    }
}

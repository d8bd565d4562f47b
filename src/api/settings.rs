//! Settings.

use poem_openapi::Object;
use serde::{Deserialize, Serialize};

use crate::config;

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq, Object, Serialize, Deserialize)]
pub struct SettingEntry {
    /// Its name in the environment.
    pub name: String,
    /// Its value; `******` for a secret, absent when it has none.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub value: Option<String>,
    /// `flag`, `environment`, the path of a file, `default`, or `not set`.
    pub source: String,
}

/// Answer of `POST /admin/reload`.
#[derive(Debug, Clone, Default, Object, Serialize, Deserialize)]
pub struct ReloadDone {
    /// What is in force now.
    pub changed: Vec<SettingChange>,
    /// What was edited too and needs a restart.
    pub needs_restart: Vec<SettingChange>,
    /// Until when the key before counts, if `JWT_SECRET_KEY` was changed and `JWT_SECRET_KEY_GRACE` is not 0.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub previous_key_counts_until: Option<String>,
}

/// A setting whose value was edited.
#[derive(Debug, Clone, PartialEq, Eq, Object, Serialize, Deserialize)]
pub struct SettingChange {
    /// Its name in the environment.
    pub name: String,
    /// Its value before; `******` for a secret, absent when it had none.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub from: Option<String>,
    /// Its value now; `******` for a secret, absent when it has none.
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

impl From<config::SettingChanges> for ReloadDone {
    fn from(changes: config::SettingChanges) -> Self {
        let wire = |changes: Vec<config::SettingChange>| {
            changes.into_iter().map(SettingChange::from).collect()
        };
        Self {
            changed: wire(changes.applied),
            needs_restart: wire(changes.needs_restart),
            previous_key_counts_until: None,
        }
    }
}

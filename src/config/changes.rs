//! The settings in force, and what was edited since: what a reload puts in force, and what waits for a restart.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use super::{
    DEFINITIONS, LogSettings, MASK, SettingDefinition, Settings, SettingsLocation, Sources,
};
use crate::api::{ReloadDone, SettingChange, SettingEntry};

/// The text of every setting. Secrets are among them, so it does not show itself.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct RawValues(BTreeMap<&'static str, String>);

impl RawValues {
    pub fn from_sources(sources: &Sources) -> Self {
        let text = |definition: &SettingDefinition| {
            let (text, _) = sources.get(definition.name)?;
            Some((definition.name, text.to_owned()))
        };
        Self(DEFINITIONS.iter().filter_map(text).collect())
    }

    /// The settings whose text is another one in `later`.
    fn changed<'a>(
        &'a self,
        later: &'a Self,
    ) -> impl Iterator<Item = &'static SettingDefinition> + 'a {
        DEFINITIONS
            .iter()
            .filter(|definition| self.0.get(definition.name) != later.0.get(definition.name))
    }

    fn describe_change(&self, definition: &SettingDefinition, later: &Self) -> SettingChange {
        let shown = |texts: &Self| {
            let text = texts.0.get(definition.name)?;
            Some(if definition.is_secret { MASK } else { text }.to_owned())
        };
        SettingChange {
            name: definition.name.into(),
            from: shown(self),
            to: shown(later),
        }
    }
}

impl fmt::Debug for RawValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The settings that the daemon runs with, and where they came from.
#[derive(Debug)]
pub struct LiveSettings {
    location: SettingsLocation,
    settings: RwLock<Arc<Settings>>,
}

impl LiveSettings {
    /// Settings that were read from `origin`.
    #[must_use]
    pub fn new(location: SettingsLocation, settings: Settings) -> Self {
        Self {
            location,
            settings: RwLock::new(Arc::new(settings)),
        }
    }

    /// The settings now.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Where they are read from.
    #[must_use]
    pub fn location(&self) -> &SettingsLocation {
        &self.location
    }

    /// Names of the settings that were edited and are not in force, whether or not what they say now is valid.
    #[must_use]
    pub fn pending(&self) -> Vec<String> {
        let now = RawValues::from_sources(&self.location.read_sources());
        let settings = self.settings();
        let changed = settings.raw_values.changed(&now);
        changed.map(|definition| definition.name.into()).collect()
    }

    /// Puts in force what of `new` can be without a restart.
    pub fn apply(&self, new: Settings) -> ReloadDone {
        let old = self.settings();
        let mut done = ReloadDone::default();
        for definition in old.raw_values.changed(&new.raw_values) {
            let list = if definition.is_reloadable {
                &mut done.changed
            } else {
                &mut done.needs_restart
            };
            list.push(old.raw_values.describe_change(definition, &new.raw_values));
        }
        let merged = old.with_reloadable_of(new);
        *self
            .settings
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(merged);
        done
    }
}

impl Settings {
    /// These settings with those of `new` that a reload puts in force.
    fn with_reloadable_of(&self, new: Self) -> Self {
        let mut texts = self.raw_values.clone();
        let mut entries = self.entries.clone();
        for definition in DEFINITIONS
            .iter()
            .filter(|definition| definition.is_reloadable)
        {
            match new.raw_values.0.get(definition.name) {
                Some(text) => texts.0.insert(definition.name, text.clone()),
                None => texts.0.remove(definition.name),
            };
            let is_it = |entry: &&SettingEntry| entry.name == definition.name;
            if let Some(entry) = entries.iter_mut().find(|entry| is_it(&&**entry))
                && let Some(new) = new.entries.iter().find(is_it)
            {
                entry.clone_from(new);
            }
        }
        Self {
            log: LogSettings {
                format: self.log.format,
                target: self.log.target.clone(),
                ..new.log
            },
            public: self.public,
            admin: self.admin,
            pid_file: self.pid_file.clone(),
            key_file: self.key_file.clone(),
            limits: self.limits.clone(),
            raw_values: texts,
            entries,
            ..new
        }
    }
}

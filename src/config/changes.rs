//! Differences between two sets of settings.

use std::collections::BTreeMap;
use std::fmt;

use super::secret::MASK;
use super::sources::Sources;
use super::table::{DEFINITIONS, SettingDefinition};

/// A setting whose value differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingChange {
    pub name: &'static str,
    /// Old value; [`MASK`] for a secret, `None` if it had none.
    pub from: Option<String>,
    /// New value; [`MASK`] for a secret, `None` if it has none.
    pub to: Option<String>,
}

/// The result of a reload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SettingChanges {
    /// Changes that are active now.
    pub applied: Vec<SettingChange>,
    /// Changes that need a restart.
    pub needs_restart: Vec<SettingChange>,
}

/// The text of every setting. Contains secrets, so its `Debug` prints only names.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct RawValues(BTreeMap<&'static str, String>);

impl RawValues {
    pub fn from_sources(sources: &Sources) -> Self {
        let text = |definition: &SettingDefinition| {
            let (text, _) = sources.get(definition.name)?;
            Some((definition.name, text.to_owned()))
        };
        Self(DEFINITIONS.iter().filter_map(text).collect())
    }

    /// The settings whose text differs in `new`.
    pub fn changed<'a>(
        &'a self,
        new: &'a Self,
    ) -> impl Iterator<Item = &'static SettingDefinition> + 'a {
        DEFINITIONS
            .iter()
            .filter(|definition| self.0.get(definition.name) != new.0.get(definition.name))
    }

    /// The changes that a reload of `new` makes.
    pub fn changes(&self, new: &Self) -> SettingChanges {
        let mut changes = SettingChanges::default();
        for definition in self.changed(new) {
            let list = if definition.is_reloadable {
                &mut changes.applied
            } else {
                &mut changes.needs_restart
            };
            list.push(SettingChange {
                name: definition.name,
                from: self.shown(definition),
                to: new.shown(definition),
            });
        }
        changes
    }

    /// These values with the reloadable ones of `new`.
    pub fn with_reloadable_of(&self, new: &Self) -> Self {
        let text = |definition: &SettingDefinition| {
            let values = if definition.is_reloadable { new } else { self };
            let text = values.0.get(definition.name)?;
            Some((definition.name, text.clone()))
        };
        Self(DEFINITIONS.iter().filter_map(text).collect())
    }

    fn shown(&self, definition: &SettingDefinition) -> Option<String> {
        let text = self.0.get(definition.name)?;
        Some(if definition.is_secret { MASK } else { text }.to_owned())
    }
}

impl fmt::Debug for RawValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

//! Settings as they are shown to people.

use std::path::Path;

use super::app_command::APP_COMMAND;
use super::secret::MASK;
use super::sources::{Source, Sources};
use super::table::DEFINITIONS;

/// A setting with its value and source, as `config` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingEntry {
    pub name: &'static str,
    /// The value; [`MASK`] for a secret, `None` if it has none.
    pub value: Option<String>,
    /// `flag`, `command line of start`, `environment`, the path of a file, `default`, or `not set`.
    pub source: String,
}

/// All settings in the order of the table. `key_file` holds the token secret if no setting does.
pub(super) fn setting_entries(sources: &Sources, key_file: &Path) -> Vec<SettingEntry> {
    let entry = |name, value: Option<&str>, source| SettingEntry {
        name,
        value: value.map(str::to_owned),
        source,
    };
    DEFINITIONS
        .iter()
        .map(|definition| match sources.get(definition.name) {
            // It stays when `.env` changes, so its source must be recognised.
            Some((value, Source::Flag)) if definition.name == APP_COMMAND => {
                entry(APP_COMMAND, Some(value), "command line of start".into())
            }
            Some((value, source)) => {
                let value = if definition.is_secret { MASK } else { value };
                entry(definition.name, Some(value), source.to_string())
            }
            None if definition.name == "JWT_SECRET_KEY" => {
                entry(definition.name, Some(MASK), key_file.display().to_string())
            }
            None => entry(definition.name, None, "not set".into()),
        })
        .collect()
}

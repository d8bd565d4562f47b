//! Where the settings of a daemon are read from, so that they can be read again.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use super::env_file::EnvFileChoice;
use super::sources::{Flags, Sources};

/// Everything that settings are read from, except the process environment.
#[derive(Debug, Clone, Default)]
pub struct SettingsLocation {
    /// Base of relative paths, and the directory of the default `.env`.
    pub directory: PathBuf,
    /// The file of `--env-file`.
    pub env_file: Option<PathBuf>,
    /// Settings given as flags.
    pub flags: Flags,
}

impl SettingsLocation {
    /// Reads the settings as they are now.
    #[must_use]
    pub fn read_sources(&self) -> Sources {
        self.read_sources_with_fallback(&BTreeMap::new())
    }

    /// Reads the settings. `inherited` is an older environment, used for variables that the process
    /// environment lacks.
    #[must_use]
    pub fn read_sources_with_fallback(&self, inherited: &BTreeMap<String, OsString>) -> Sources {
        let file = self.env_file_choice();
        Sources::read(&self.flags, &file, &self.directory, inherited)
    }

    /// Path of the `.env` file, which need not exist.
    #[must_use]
    pub fn env_file_path(&self) -> PathBuf {
        self.env_file_choice().path(&self.directory)
    }

    fn env_file_choice(&self) -> EnvFileChoice {
        match &self.env_file {
            Some(path) => EnvFileChoice::Explicit(path.clone()),
            None => EnvFileChoice::Default,
        }
    }
}

//! Where the settings of a daemon come from, so that they can be read again.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use super::{EnvFileChoice, Flags, Sources};

/// What settings are read from, beside the process environment.
#[derive(Debug, Clone, Default)]
pub struct SettingsLocation {
    /// Where `.env` and relative paths are seen from.
    pub directory: PathBuf,
    /// The file of `--env-file`.
    pub env_file: Option<PathBuf>,
    /// Settings given by flags.
    pub flags: Flags,
}

impl SettingsLocation {
    /// What is there now.
    #[must_use]
    pub fn read_sources(&self) -> Sources {
        self.read_sources_with_fallback(&BTreeMap::new())
    }

    /// The same with an older environment that counts where the process environment is silent.
    #[must_use]
    pub fn read_sources_with_fallback(&self, inherited: &BTreeMap<String, OsString>) -> Sources {
        Sources::read(&self.flags, &self.env_file(), &self.directory, inherited)
    }

    /// The file that is read, whether or not it is there.
    #[must_use]
    pub fn env_file_path(&self) -> PathBuf {
        self.env_file().path(&self.directory)
    }

    fn env_file(&self) -> EnvFileChoice {
        match &self.env_file {
            Some(path) => EnvFileChoice::Explicit(path.clone()),
            None => EnvFileChoice::Default,
        }
    }
}

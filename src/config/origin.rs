//! Where the settings of a daemon come from, so that they can be read again.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use super::{EnvFile, Flags, Sources};

/// What settings are read from, beside the process environment.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// Where `.env` and relative paths are seen from.
    pub directory: PathBuf,
    /// The file of `--env-file`.
    pub env_file: Option<PathBuf>,
    /// Settings given by flags.
    pub flags: Flags,
}

impl Origin {
    /// What is there now.
    #[must_use]
    pub fn sources(&self) -> Sources {
        self.sources_beside(&BTreeMap::new())
    }

    /// The same with an older environment that counts where the process environment is silent.
    #[must_use]
    pub fn sources_beside(&self, inherited: &BTreeMap<String, OsString>) -> Sources {
        Sources::read(&self.flags, &self.env_file(), &self.directory, inherited)
    }

    /// The file that is read, whether or not it is there.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.env_file().path(&self.directory)
    }

    fn env_file(&self) -> EnvFile {
        match &self.env_file {
            Some(path) => EnvFile::Given(path.clone()),
            None => EnvFile::Default,
        }
    }
}

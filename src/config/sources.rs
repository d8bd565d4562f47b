//! The text of every setting, and where it came from.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use super::env_file::{self, EnvFileChoice};
use super::environment::home_directory;
use super::error::{SettingProblem, SettingWarning};
use super::table::DEFINITIONS;
use super::typo::Typo;

/// Where a value came from, in order of precedence.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// A command line flag.
    Flag,
    /// The process environment.
    Environment,
    /// A file of settings.
    File(PathBuf),
    /// The built-in default.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("flag"),
            Self::Environment => f.write_str("environment"),
            Self::File(path) => path.display().fmt(f),
            Self::Default => f.write_str("default"),
        }
    }
}

/// Settings given as flags, by name.
pub type Flags = BTreeMap<String, String>;

/// The text of every setting that has one, and where it came from.
#[derive(Debug)]
pub struct Sources {
    values: BTreeMap<&'static str, (String, Source)>,
    problems: Vec<SettingProblem>,
    warnings: Vec<SettingWarning>,
    typos: Vec<Typo>,
    home: Option<PathBuf>,
    directory: PathBuf,
    file: PathBuf,
    is_file_trusted: bool,
}

impl Sources {
    /// Reads flags, the process environment and the file. Relative paths and the default `.env` are
    /// resolved against `directory`. An empty value means that the setting is not set.
    ///
    /// An unreadable source is recorded as a problem, so that [`super::Settings::load`] reports it
    /// with all others.
    ///
    /// `inherited` is an older environment, used for variables that the process environment lacks:
    /// a restart keeps the settings that the daemon was started with.
    #[must_use]
    pub fn read(
        flags: &Flags,
        file: &EnvFileChoice,
        directory: &Path,
        inherited: &BTreeMap<String, OsString>,
    ) -> Self {
        let path = file.path(directory);
        let mut env_file = env_file::load(file, directory);
        let mut problems = env_file.problems;
        let mut values = BTreeMap::new();
        for definition in &DEFINITIONS {
            let name = definition.name;
            let variable = std::env::var_os(name).or_else(|| inherited.get(name).cloned());
            let variable = variable.and_then(|value| {
                let value = value.into_string().ok();
                if value.is_none() {
                    problems.push(SettingProblem {
                        setting: name.into(),
                        message: "is not valid UTF-8 (environment)".into(),
                    });
                }
                value
            });
            let candidates = [
                flags.get(name).cloned().map(|v| (v, Source::Flag)),
                variable.map(|v| (v, Source::Environment)),
                env_file
                    .values
                    .remove(name)
                    .map(|v| (v, Source::File(path.clone()))),
                definition
                    .default_text()
                    .map(|v| (v.into_owned(), Source::Default)),
            ];
            let winner = candidates
                .into_iter()
                .flatten()
                .find(|(value, _)| !value.is_empty());
            if let Some(found) = winner {
                values.insert(name, found);
            }
        }
        let is_unset = |typo: &Typo| {
            let found = values.get(typo.setting);
            found.is_none_or(|(_, source)| *source == Source::Default)
        };
        let other_names = env_file.values.keys();
        let typos = other_names.filter_map(|name| Typo::detect(name));
        Self {
            typos: typos.filter(is_unset).collect(),
            values,
            problems,
            warnings: env_file.warnings,
            home: home_directory(),
            directory: directory.to_owned(),
            file: path,
            is_file_trusted: env_file.is_trusted,
        }
    }

    /// The text of a setting and where it came from.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<(&str, &Source)> {
        self.values
            .get(name)
            .map(|(value, source)| (value.as_str(), source))
    }

    /// Problems with reading the sources.
    #[must_use]
    pub fn problems(&self) -> &[SettingProblem] {
        &self.problems
    }

    /// Weaknesses of the sources that keep nothing from working.
    #[must_use]
    pub fn warnings(&self) -> &[SettingWarning] {
        &self.warnings
    }

    /// Names in the file that are close to a setting that is not set.
    #[must_use]
    pub fn typos(&self) -> &[Typo] {
        &self.typos
    }

    /// Whether every setting has the same text in both.
    #[must_use]
    pub fn has_same_values(&self, other: &Self) -> bool {
        let text = |sources: &Self, name| sources.get(name).map(|(text, _)| text.to_owned());
        let mut settings = DEFINITIONS.iter();
        settings.all(|setting| text(self, setting.name) == text(other, setting.name))
    }

    /// Path of the file, which need not exist.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Whether no other user can have written the file. If false, the file is ignored.
    #[must_use]
    pub fn is_file_trusted(&self) -> bool {
        self.is_file_trusted
    }

    pub(super) fn home(&self) -> Option<&Path> {
        self.home.as_deref()
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }
}

//! The text of every setting, and where it came from.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::env_file::{self, EnvFileChoice, exposed_file};
use super::environment::home_directory;
use super::error::{SettingProblem, SettingWarning};
use super::paths::expand_path;
use super::secret_file::read_secret;
use super::service_links::ServiceLinks;
use super::table::{DEFINITIONS, SettingDefinition};
use super::unknown_names::{is_checked, unknown_name_warnings};
use super::worker_environment::WorkerEnvironment;

/// Settings that name a file with a private key.
const KEY_FILES: [&str; 2] = ["DB_SSLKEY", "REDIS_KEY"];

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
    home: Option<PathBuf>,
    directory: PathBuf,
    file: PathBuf,
    is_file_trusted: bool,
    worker_environment: WorkerEnvironment,
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
        let environment = Environment::read(inherited);
        let worker_environment = WorkerEnvironment::new(&env_file.values, &environment.variables);
        let mut reader = SourceReader {
            home: home_directory(),
            directory,
            problems: env_file.problems,
            warnings: env_file.warnings,
        };
        let mut values = BTreeMap::new();
        for definition in &DEFINITIONS {
            let name = definition.name;
            let mut from_file = |name: &str| env_file.values.remove(name);
            let levels = [
                Level {
                    text: flags.get(name).cloned(),
                    file: None,
                    source: Source::Flag,
                },
                Level {
                    text: environment.get(name, &mut reader.problems),
                    file: definition
                        .file_variable
                        .and_then(|name| environment.get(name, &mut reader.problems)),
                    source: Source::Environment,
                },
                Level {
                    text: from_file(name),
                    file: definition.file_variable.and_then(from_file),
                    source: Source::File(path.clone()),
                },
                Level {
                    text: definition.default_text().map(Cow::into_owned),
                    file: None,
                    source: Source::Default,
                },
            ];
            let mut levels = levels.into_iter();
            match levels.find_map(|level| reader.value(definition, level)) {
                Some(Ok(found)) => {
                    values.insert(name, found);
                }
                Some(Err(problem)) => reader.problems.push(problem),
                None => {}
            }
        }
        let is_set = |name: &str| {
            let found: Option<&(String, Source)> = values.get(name);
            found.is_some_and(|(_, source)| *source != Source::Default)
        };
        let mut warnings = reader.warnings;
        for name in KEY_FILES {
            let path = values
                .get(name)
                .map(|(text, _)| expand_path(text, reader.home.as_deref(), directory));
            if let Some(Ok(path)) = path
                && let Ok(metadata) = path.metadata()
            {
                let what = format!("contains the key of {name} and");
                warnings.extend(exposed_file(&path, metadata.mode(), &what));
            }
        }
        warnings.extend(environment.links.warning());
        warnings.extend(unknown_name_warnings(
            environment.other_names(),
            &Source::Environment.to_string(),
            is_set,
        ));
        warnings.extend(unknown_name_warnings(
            env_file.values.keys().map(String::as_str),
            &path.display().to_string(),
            is_set,
        ));
        Self {
            values,
            problems: reader.problems,
            warnings,
            home: reader.home,
            directory: directory.to_owned(),
            file: path,
            is_file_trusted: env_file.is_trusted,
            worker_environment,
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

    pub(super) fn worker_environment(&self) -> &WorkerEnvironment {
        &self.worker_environment
    }

    pub(super) fn home(&self) -> Option<&Path> {
        self.home.as_deref()
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }
}

/// The process environment, and variables of an older one.
struct Environment {
    variables: BTreeMap<OsString, OsString>,
    links: ServiceLinks,
}

impl Environment {
    fn read(inherited: &BTreeMap<String, OsString>) -> Self {
        let inherited = inherited.iter();
        let mut variables: BTreeMap<OsString, OsString> = inherited
            .map(|(name, value)| (name.into(), value.clone()))
            .collect();
        variables.extend(std::env::vars_os());
        let texts = variables.iter().filter_map(|(name, value)| {
            Some((name.to_str()?.to_owned(), value.to_str()?.to_owned()))
        });
        Self {
            links: ServiceLinks::find(&texts.collect()),
            variables,
        }
    }

    /// The value of a variable, unless a platform set it for another program.
    fn get(&self, name: &str, problems: &mut Vec<SettingProblem>) -> Option<String> {
        let value = self.variables.get(OsStr::new(name))?;
        if self.links.contains(name) {
            return None;
        }
        let text = value.to_str();
        if text.is_none() {
            problems.push(SettingProblem {
                setting: name.into(),
                message: "is not valid UTF-8 (environment)".into(),
            });
        }
        text.map(str::to_owned)
    }

    /// Names that begin like our settings.
    fn other_names(&self) -> impl Iterator<Item = &str> {
        let names = self.variables.keys().filter_map(|name| name.to_str());
        names.filter(|name| is_checked(name) && !self.links.contains(name))
    }
}

/// A source that may set a setting, or name a file that contains it.
struct Level {
    text: Option<String>,
    /// Path of a file that contains the value.
    file: Option<String>,
    source: Source,
}

struct SourceReader<'a> {
    home: Option<PathBuf>,
    directory: &'a Path,
    problems: Vec<SettingProblem>,
    warnings: Vec<SettingWarning>,
}

impl SourceReader<'_> {
    /// The value of a setting at a level, or the problem with it; `None` if the level does not set
    /// it.
    fn value(
        &mut self,
        setting: &SettingDefinition,
        level: Level,
    ) -> Option<Result<(String, Source), SettingProblem>> {
        let is_set = |text: &String| !text.is_empty();
        let text = level.text.filter(is_set);
        let Some(file) = level.file.filter(is_set) else {
            return text.map(|text| Ok((text, level.source)));
        };
        let path = expand_path(&file, self.home.as_deref(), self.directory);
        let secret = match (text, path) {
            (Some(_), _) => Err(format!("{} is set, too: remove one of them", setting.name)),
            (None, Err(reason)) => Err(reason),
            (None, Ok(path)) => read_secret(&file, &path).map(|secret| (secret, path)),
        };
        Some(match secret {
            Ok(((text, warning), path)) => {
                self.warnings.extend(warning);
                Ok((text, Source::File(path)))
            }
            Err(message) => Err(SettingProblem {
                setting: setting.file_variable.unwrap_or_default().into(),
                message: format!("{message} ({})", level.source),
            }),
        })
    }
}

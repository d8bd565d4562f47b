//! Where the text of each setting comes from. The only place that reads the environment.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs::{Metadata, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::libc;
use nix::unistd::{Uid, User, geteuid, getuid};

use super::env_file::{self, EnvFileError};
use super::{DEFINITIONS, SettingProblem, Typo};

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A command line flag.
    Flag,
    /// The process environment.
    Environment,
    /// A line of this file.
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

/// Which file of settings to read.
#[derive(Debug, Clone)]
pub enum EnvFileChoice {
    /// `.env` in the working directory, if there is one.
    Default,
    /// The file of `--env-file`, which has to exist.
    Explicit(PathBuf),
}

impl EnvFileChoice {
    /// Where it is, seen from this directory.
    #[must_use]
    pub fn path(&self, directory: &Path) -> PathBuf {
        directory.join(match self {
            Self::Default => Path::new(".env"),
            Self::Explicit(path) => path,
        })
    }
}

/// The text of every setting that has one, and where it came from.
#[derive(Debug)]
pub struct Sources {
    values: BTreeMap<&'static str, (String, Source)>,
    problems: Vec<SettingProblem>,
    typos: Vec<Typo>,
    home: Option<PathBuf>,
    directory: PathBuf,
    file: PathBuf,
    is_file_trusted: bool,
}

impl Sources {
    /// Reads the process environment and the file. Relative paths, and the default `.env`, are seen from
    /// `directory`. An empty value counts as not set.
    ///
    /// What cannot be read is kept as a problem, so that [`super::Settings::load`] reports it beside all others.
    ///
    /// `inherited` is an older environment that counts where the process environment is silent: a restart keeps
    /// what the daemon was started with.
    #[must_use]
    pub fn read(
        flags: &Flags,
        file: &EnvFileChoice,
        directory: &Path,
        inherited: &BTreeMap<String, OsString>,
    ) -> Self {
        let mut problems = Vec::new();
        let path = file.path(directory);
        let is_given = matches!(file, EnvFileChoice::Explicit(_));
        let mut is_file_trusted = true;
        let mut from_file = match read_file(&path, is_given) {
            Ok(EnvFileContent::Text(text, metadata)) => {
                let values = parse_file(&text, &path, &mut problems);
                problems.extend(find_exposed_secret(&path, metadata.mode(), &values));
                values
            }
            Ok(EnvFileContent::Untrusted(reason)) => {
                is_file_trusted = false;
                problems.push(SettingProblem {
                    setting: path.display().to_string(),
                    message: reason,
                });
                BTreeMap::new()
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && !is_given => BTreeMap::new(),
            Err(error) => {
                problems.push(SettingProblem {
                    setting: path.display().to_string(),
                    message: format!("cannot be read: {error}"),
                });
                BTreeMap::new()
            }
        };

        let mut values = BTreeMap::new();
        for definition in &DEFINITIONS {
            let name = definition.name;
            let variable = std::env::var_os(name).or_else(|| inherited.get(name).cloned());
            let from_environment = variable.and_then(|value| {
                value.into_string().map_or_else(
                    |_| {
                        problems.push(SettingProblem {
                            setting: name.into(),
                            message: "is not valid UTF-8 (environment)".into(),
                        });
                        None
                    },
                    Some,
                )
            });
            let candidates = [
                flags.get(name).cloned().map(|v| (v, Source::Flag)),
                from_environment.map(|v| (v, Source::Environment)),
                from_file
                    .remove(name)
                    .map(|v| (v, Source::File(path.clone()))),
                definition.default.map(|v| (v.to_owned(), Source::Default)),
            ];
            let winner = candidates
                .into_iter()
                .flatten()
                .find(|(value, _)| !value.is_empty());
            if let Some(found) = winner {
                values.insert(name, found);
            }
        }
        let is_missed = |miss: &Typo| {
            let found = values.get(miss.setting);
            found.is_none_or(|(_, source)| *source == Source::Default)
        };
        let near_misses = from_file.keys().filter_map(|name| Typo::detect(name));
        Self {
            typos: near_misses.filter(is_missed).collect(),
            values,
            problems,
            home: home_directory(),
            directory: directory.to_owned(),
            file: path,
            is_file_trusted,
        }
    }

    /// The text of a setting and where it came from.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<(&str, &Source)> {
        self.values
            .get(name)
            .map(|(value, source)| (value.as_str(), source))
    }

    /// What could not be read.
    #[must_use]
    pub fn problems(&self) -> &[SettingProblem] {
        &self.problems
    }

    /// Names in the file that are no settings, and close to one that nobody set.
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

    /// The file that is read, whether or not it is there.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Whether it is a file that others can neither have left there nor change; if not, nothing of it counts.
    #[must_use]
    pub fn is_file_trusted(&self) -> bool {
        self.is_file_trusted
    }

    /// What a file with this text sets, and what is wrong with it.
    pub(crate) fn parse_env_file(
        text: &str,
        environment: impl Fn(&str) -> Option<String>,
    ) -> (BTreeMap<String, String>, Vec<EnvFileError>) {
        env_file::parse(text, environment)
    }

    pub(super) fn home(&self) -> Option<&Path> {
        self.home.as_deref()
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }
}

fn parse_file(
    text: &str,
    path: &Path,
    problems: &mut Vec<SettingProblem>,
) -> BTreeMap<String, String> {
    let (values, errors) = Sources::parse_env_file(text, |name| std::env::var(name).ok());
    problems.extend(errors.into_iter().map(|error| SettingProblem {
        setting: path.display().to_string(),
        message: error.to_string(),
    }));
    values
}

/// Whoever reads the secret of tokens can stop the daemon. Its group may be the service's own.
fn find_exposed_secret(
    path: &Path,
    mode: u32,
    values: &BTreeMap<String, String>,
) -> Option<SettingProblem> {
    let is_secret = |name: &&str| values.get(*name).is_some_and(|value| !value.is_empty());
    let secrets = DEFINITIONS.iter().filter(|definition| definition.is_secret);
    let secret = secrets.map(|definition| definition.name).find(is_secret)?;
    let path = path.display();
    (mode & 0o004 != 0).then(|| SettingProblem {
        setting: path.to_string(),
        message: format!(
            "holds {secret} and can be read by everybody (mode {:o}): chmod 600 {path}, and consider another secret",
            mode & 0o7777
        ),
    })
}

/// What there is in a file of settings.
enum EnvFileContent {
    Text(String, Metadata),
    /// Nothing of it counts, for this reason.
    Untrusted(String),
}

/// Text and permissions of a file, or the nothing of `/dev/null`. From a pipe or a terminal settings could be read only once, and a
/// running daemon that reads them again might wait for ever. So it is found first, examined, and that very file is read: waited
/// for is only who has a lease on it.
fn read_file(path: &Path, is_given: bool) -> io::Result<EnvFileContent> {
    let place = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH)
        .open(path)?;
    let metadata = place.metadata()?;
    if metadata.is_file() {
        if let Some(reason) = reason_to_distrust(path, &metadata, is_given)? {
            return Ok(EnvFileContent::Untrusted(reason));
        }
    } else if metadata.rdev() != std::fs::metadata("/dev/null")?.rdev() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let text = std::fs::read_to_string(format!("/proc/self/fd/{}", place.as_raw_fd()));
    let text = text.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => io::Error::other("/proc is not mounted"),
        _ => error,
    })?;
    Ok(EnvFileContent::Text(text, metadata))
}

/// Settings say where tokens are sent, so nobody else may decide them: neither by a file that waits in a directory for whoever
/// comes by, nor by a link to one that is not meant. Whoever names a file has looked at whose it is.
fn reason_to_distrust(
    path: &Path,
    metadata: &Metadata,
    is_given: bool,
) -> io::Result<Option<String>> {
    let shown = path.display();
    let mode = metadata.mode() & 0o7777;
    if mode & 0o002 != 0 {
        return Ok(Some(format!(
            "can be written by everybody (mode {mode:o}), and nothing of it counts: chmod go-w {shown}"
        )));
    }
    if is_given {
        return Ok(None);
    }
    let is_foreign = |uid: &u32| ![geteuid().as_raw(), 0].contains(uid);
    let owners = [metadata.uid(), path.symlink_metadata()?.uid()];
    Ok(owners.into_iter().find(is_foreign).map(|uid| {
        format!(
            "belongs to {} (mode {mode:o}), and nothing of it counts: chown it to yourself, or name it with --env-file {shown} if it is meant",
            user_name(uid)
        )
    }))
}

/// The name of a user.
#[must_use]
pub fn user_name(uid: u32) -> String {
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    user.map_or_else(|| format!("uid {uid}"), |user| user.name)
}

/// What of an older environment counts beside this process's own: the settings that this one is silent about.
#[must_use]
pub fn inherited_settings(
    mut environment: BTreeMap<String, OsString>,
) -> BTreeMap<String, OsString> {
    environment.retain(|name, _| {
        let is_setting = DEFINITIONS.iter().any(|setting| setting.name == name);
        is_setting && std::env::var_os(name).is_none()
    });
    environment
}

/// Whether a process with this environment has the same variable of this name as this one, or none as well.
#[must_use]
pub fn has_same_variable(environment: &BTreeMap<String, OsString>, name: &str) -> bool {
    environment.get(name) == std::env::var_os(name).as_ref()
}

/// Whether the user wants colours where a terminal can show them (<https://no-color.org>).
#[must_use]
pub fn is_colour_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn home_directory() -> Option<PathBuf> {
    std::env::var_os("HOME")
        .filter(|home| !home.is_empty())
        .map(PathBuf::from)
        .or_else(|| User::from_uid(getuid()).ok().flatten().map(|user| user.dir))
}

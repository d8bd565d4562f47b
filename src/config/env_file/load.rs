//! Opens an `.env` file, unless another user may have written it. Reports a secret in a file that
//! other users can read.

use std::collections::BTreeMap;
use std::fs::{Metadata, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::libc;
use nix::unistd::{Gid, Group, User, geteuid};

use super::parser;
use crate::config::environment::user_name;
use crate::config::error::{SettingProblem, SettingWarning, SettingWarningKind};
use crate::config::table::DEFINITIONS;
use crate::sys::explain_denial;

/// In a directory with this bit, users can rename only their own files.
const STICKY: u32 = 0o1000;

/// Which file of settings to read.
#[derive(Debug, Clone)]
pub enum EnvFileChoice {
    /// `.env` in the working directory, if it exists.
    Default,
    /// The file of `--env-file`, which has to exist.
    Explicit(PathBuf),
}

impl EnvFileChoice {
    /// The path, resolved against `directory`.
    #[must_use]
    pub fn path(&self, directory: &Path) -> PathBuf {
        directory.join(match self {
            Self::Default => Path::new(".env"),
            Self::Explicit(path) => path,
        })
    }
}

/// A file of settings after reading. A missing default file is an empty one.
pub struct EnvFile {
    pub values: BTreeMap<String, String>,
    pub problems: Vec<SettingProblem>,
    pub warnings: Vec<SettingWarning>,
    /// False if another user may have written the file. Then it has no values.
    pub is_trusted: bool,
}

/// Reads a file of settings.
pub fn load(choice: &EnvFileChoice, directory: &Path) -> EnvFile {
    let path = choice.path(directory);
    let is_explicit = matches!(choice, EnvFileChoice::Explicit(_));
    let problem = |message| SettingProblem {
        setting: path.display().to_string(),
        message,
    };
    let mut file = EnvFile {
        values: BTreeMap::new(),
        problems: Vec::new(),
        warnings: Vec::new(),
        is_trusted: true,
    };
    match read(&path, is_explicit) {
        Ok(Content::Text(text, metadata)) => {
            let (values, errors) = parser::parse(&text, |name| std::env::var(name).ok());
            for error in errors {
                if error.names_setting {
                    file.problems.push(problem(error.to_string()));
                } else {
                    file.warnings.push(SettingWarning {
                        kind: SettingWarningKind::InvalidLine,
                        subject: path.display().to_string(),
                        message: error.to_string(),
                        next_step: "the line is ignored; correct or remove it".into(),
                    });
                }
            }
            file.warnings
                .extend(exposed_secret(&path, metadata.mode(), &values));
            file.values = values;
        }
        Ok(Content::Untrusted(reason)) => {
            file.is_trusted = false;
            file.problems.push(problem(reason));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && !is_explicit => {}
        Err(error) => file
            .problems
            .push(problem(format!("cannot be read: {error}"))),
    }
    file
}

/// A warning about a secret in a file that all users can read. A user who reads the signing key can
/// stop the daemon. The group may be the service's own, so it may read the file. It is only a
/// warning, because the mode of a file on some volumes and drives cannot be changed.
fn exposed_secret(
    path: &Path,
    mode: u32,
    values: &BTreeMap<String, String>,
) -> Option<SettingWarning> {
    let is_set = |name: &&str| values.get(*name).is_some_and(|value| !value.is_empty());
    let secrets = DEFINITIONS.iter().filter(|definition| definition.is_secret);
    let secret = secrets.map(|definition| definition.name).find(is_set)?;
    exposed_file(path, mode, &format!("contains {secret} and"))
}

/// A warning about a file with a secret that all users can read. `what` begins the message.
pub fn exposed_file(path: &Path, mode: u32, what: &str) -> Option<SettingWarning> {
    const SEARCH_BY_OTHERS: u32 = 0o001;
    if mode & 0o004 == 0 {
        return None;
    }
    let can_search = |directory: &Path| {
        let metadata = directory.metadata();
        metadata.map_or(true, |metadata| metadata.mode() & SEARCH_BY_OTHERS != 0)
    };
    let real_path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    real_path
        .ancestors()
        .skip(1)
        .all(can_search)
        .then(|| SettingWarning {
            kind: SettingWarningKind::ExposedSecret,
            subject: path.display().to_string(),
            message: format!("{what} is readable by all users (mode {:o})", mode & 0o7777),
            next_step: format!(
                "run `chmod 600 {}`, and consider changing the secret",
                path.display()
            ),
        })
}

/// Contents of a file of settings or of a secret.
pub enum Content {
    Text(String, Metadata),
    /// The reason why the file is ignored.
    Untrusted(String),
}

/// Reads a regular file, or `/dev/null`, which is empty.
///
/// A pipe or a terminal could be read only once, and a running daemon that reloads its settings
/// could block on it. So the file is opened with `O_PATH`, checked, and then the same file is read
/// through `/proc`. Only a lease on the file can delay that.
pub fn read(path: &Path, is_explicit: bool) -> io::Result<Content> {
    let handle = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH)
        .open(path)
        .map_err(|error| explain_denial(path, error))?;
    let metadata = handle.metadata()?;
    if metadata.is_file() {
        if let Some(reason) = reason_to_distrust(path, &metadata, is_explicit)? {
            return Ok(Content::Untrusted(reason));
        }
    } else if metadata.rdev() != std::fs::metadata("/dev/null")?.rdev() {
        return Err(io::Error::other("not a regular file"));
    }
    let text = std::fs::read_to_string(format!("/proc/self/fd/{}", handle.as_raw_fd()));
    let text = text.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => io::Error::other("/proc is not mounted"),
        _ => error,
    })?;
    Ok(Content::Text(text, metadata))
}

/// Why a file must not be used. Settings decide where tokens are sent, so no other user may write
/// them: neither as a file left in a shared directory, nor as a link to an unrelated file. An
/// explicit file may belong to anybody, because the user who names it knows its owner.
fn reason_to_distrust(
    path: &Path,
    metadata: &Metadata,
    is_explicit: bool,
) -> io::Result<Option<String>> {
    let shown = path.display();
    let mode = metadata.mode() & 0o7777;
    if mode & 0o002 != 0 {
        return Ok(Some(format!(
            "is writable by all users (mode {mode:o}) and is ignored: run `chmod go-w {shown}`; if the file system has no modes, move the file to another one, or set the variables in the environment"
        )));
    }
    if let Some((directory, mode)) = writable_directory_above(path)? {
        let directory = directory.display();
        return Ok(Some(format!(
            "is in {directory}, which all users can write to (mode {mode:o}), and is ignored: run `chmod o-w {directory}`, or move the file to another directory"
        )));
    }
    if is_explicit {
        return Ok(None);
    }
    let is_foreign = |uid: &u32| ![geteuid().as_raw(), 0].contains(uid);
    let owners = [metadata.uid(), path.symlink_metadata()?.uid()];
    Ok(owners.into_iter().find(is_foreign).map(|uid| {
        format!(
            "belongs to {} (mode {mode:o}) and is ignored: change its owner, or use it on purpose with `--env-file {shown}`",
            user_name(uid)
        )
    }))
}

/// A directory above the file in which all users can replace it or the directory below, and its
/// mode. In a sticky directory, such as `/tmp`, they can replace only their own files.
fn writable_directory_above(path: &Path) -> io::Result<Option<(PathBuf, u32)>> {
    let real_path = path.canonicalize()?;
    // The directories of a link, and those of the file.
    let directories = path.ancestors().skip(1);
    find_writable(directories.chain(real_path.ancestors().skip(1)))
}

/// The same for the files in a directory.
fn writable_directory(directory: &Path) -> io::Result<Option<(PathBuf, u32)>> {
    let real_path = directory.canonicalize()?;
    find_writable(directory.ancestors().chain(real_path.ancestors()))
}

/// A directory in which other users can rename files.
pub struct ReplaceableDirectory {
    pub directory: PathBuf,
    pub mode: u32,
    /// The group that can write to it; `None` if all users can.
    pub group: Option<String>,
}

/// A directory above the files in `directory`, or this one, in which all users or the members of a
/// group can rename files.
///
/// # Errors
///
/// The mode of a directory cannot be read.
pub fn replaceable_directory(directory: &Path) -> io::Result<Option<ReplaceableDirectory>> {
    if let Some((directory, mode)) = writable_directory(directory)? {
        let group = None;
        return Ok(Some(ReplaceableDirectory {
            directory,
            mode,
            group,
        }));
    }
    let real_path = directory.canonicalize()?;
    for directory in directory.ancestors().chain(real_path.ancestors()) {
        if directory.as_os_str().is_empty() {
            continue;
        }
        let metadata = directory.metadata()?;
        let mode = metadata.mode() & 0o7777;
        if mode & 0o020 != 0
            && mode & STICKY == 0
            && let Some(group) = shared_group(metadata.gid())
        {
            return Ok(Some(ReplaceableDirectory {
                directory: directory.to_owned(),
                mode,
                group: Some(group),
            }));
        }
    }
    Ok(None)
}

/// The name of a group that may have other members: neither the group of this user alone, which
/// has the user's name or number, nor that of root.
fn shared_group(gid: u32) -> Option<String> {
    let group = Group::from_gid(Gid::from_raw(gid)).ok().flatten();
    let user = User::from_uid(geteuid()).ok().flatten();
    let user = user.map(|user| user.name);
    let is_other = |member: &String| member != "root" && Some(member) != user.as_ref();
    let has_others = group
        .as_ref()
        .is_some_and(|group| group.mem.iter().any(is_other));
    let has_name_of_user = group
        .as_ref()
        .is_some_and(|group| Some(&group.name) == user.as_ref());
    let is_own = gid == 0 || gid == geteuid().as_raw() || has_name_of_user;
    if is_own && !has_others {
        return None;
    }
    Some(group.map_or_else(|| gid.to_string(), |group| group.name))
}

fn find_writable<'a>(
    directories: impl Iterator<Item = &'a Path>,
) -> io::Result<Option<(PathBuf, u32)>> {
    for directory in directories {
        if directory.as_os_str().is_empty() {
            continue;
        }
        let mode = directory.metadata()?.mode() & 0o7777;
        if mode & 0o002 != 0 && mode & STICKY == 0 {
            return Ok(Some((directory.to_owned(), mode)));
        }
    }
    Ok(None)
}

//! Facts about the process environment and about other environments.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use nix::unistd::{Uid, User, geteuid, getuid};

use super::table::{DEFINITIONS, SettingDefinition};
use super::worker_environment::is_passed_on;
use crate::sys::{inherited_file, is_same_file};

/// The login name of a user, or `uid N` if it has none.
#[must_use]
pub fn user_name(uid: u32) -> String {
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    user.map_or_else(|| format!("uid {uid}"), |user| user.name)
}

/// The settings of an older environment, and its variables for the application, that the process
/// environment does not set.
#[must_use]
pub fn inherited_settings(
    mut environment: BTreeMap<String, OsString>,
) -> BTreeMap<String, OsString> {
    environment.retain(|name, _| {
        let is_kept = is_passed_on(name) || setting_variables().any(|variable| variable == name);
        is_kept && std::env::var_os(name).is_none()
    });
    environment
}

/// Whether a variable has the same value in `environment` and in the process environment, or is set
/// in neither.
#[must_use]
pub fn has_same_variable(environment: &BTreeMap<String, OsString>, name: &str) -> bool {
    environment.get(name) == std::env::var_os(name).as_ref()
}

/// The settings in the process environment that have another value in `environment`, or none.
/// `PID_FILE` is left out: it selects a daemon.
#[must_use]
pub fn differing_variables(environment: &BTreeMap<String, OsString>) -> Vec<&'static str> {
    setting_variables()
        .filter(|name| *name != "PID_FILE" && std::env::var_os(name).is_some())
        .filter(|name| !has_same_variable(environment, name))
        .collect()
}

/// The working directory by the name that the shell has for it (`$PWD`), so that a link in it, such as
/// `current` of a deployment, is followed again at each start.
#[must_use]
pub fn working_directory() -> PathBuf {
    let named = std::env::var_os("PWD").map(PathBuf::from);
    named
        .filter(|path| is_working_directory(path))
        .unwrap_or_else(|| {
            // A removed working directory still has this name. Only access to its files fails.
            std::env::current_dir().unwrap_or_else(|_| "/proc/self/cwd".into())
        })
}

/// Whether the path names the working directory, without links that another user could change.
fn is_working_directory(path: &Path) -> bool {
    let is_same = match (path.metadata(), Path::new(".").metadata()) {
        (Ok(one), Ok(other)) => is_same_file(&one, &other),
        _ => false,
    };
    let mut parts = path.components();
    let is_trusted = |part: &Path| {
        let metadata = part.symlink_metadata();
        metadata.is_ok_and(|it| !it.is_symlink() || [0, geteuid().as_raw()].contains(&it.uid()))
    };
    is_same
        && path.is_absolute()
        && parts.all(|part| part != Component::ParentDir)
        && path.ancestors().all(is_trusted)
}

/// Whether output to a terminal should be coloured (<https://no-color.org>).
#[must_use]
pub fn is_colour_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Whether systemd connected this inherited stream to its journal (`JOURNAL_STREAM`,
/// `systemd.exec(5)`).
#[must_use]
pub fn is_journal(stream: BorrowedFd<'_>) -> bool {
    let journal = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    inherited_file(stream).is_ok_and(|file| journal == format!("{}:{}", file.dev(), file.ino()))
}

/// The variables that set a setting.
fn setting_variables() -> impl Iterator<Item = &'static str> {
    DEFINITIONS.iter().flat_map(SettingDefinition::variables)
}

/// The directory for state that is not worth a backup (XDG Base Directory Specification).
pub(super) fn state_directory(home: Option<&Path>) -> Option<PathBuf> {
    let set = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    set.filter(|path| path.is_absolute())
        .or_else(|| Some(home?.join(".local/state")))
}

pub(super) fn home_directory() -> Option<PathBuf> {
    std::env::var_os("HOME")
        .filter(|home| !home.is_empty())
        .map(PathBuf::from)
        .or_else(|| User::from_uid(getuid()).ok().flatten().map(|user| user.dir))
}

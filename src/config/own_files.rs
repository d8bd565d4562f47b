//! The files that the program writes are different ones.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::validator::Validator;
use crate::sys::is_same_file;

/// The state file of a PID file.
#[must_use]
pub fn state_file(pid_file: &Path) -> PathBuf {
    with_suffix(pid_file, ".state")
}

/// The directory of the workers' sockets of a PID file.
#[must_use]
pub fn workers_directory(pid_file: &Path) -> PathBuf {
    with_suffix(pid_file, ".d")
}

/// The list of revoked tokens beside a key file.
#[must_use]
pub fn revoked_file(key_file: &Path) -> PathBuf {
    key_file.with_extension("revoked")
}

/// The files of the settings, as far as they are valid.
pub(super) struct OwnFiles<'a> {
    pub log: Option<&'a Path>,
    pub audit: Option<&'a Path>,
    pub pid: Option<&'a Path>,
    pub key: Option<&'a Path>,
}

impl OwnFiles<'_> {
    /// Records a problem for each setting that names a file with another purpose.
    pub fn check(&self, validator: &mut Validator<'_>) {
        let mut others = vec![(".env".to_owned(), validator.sources.file().to_owned())];
        if let Some(key) = self.key {
            let revoked = revoked_file(key);
            others.push(("the key file".into(), key.to_owned()));
            others.push(("the new key file".into(), key.with_extension("key.new")));
            for suffix in ["", ".new", ".lock"] {
                let file = with_suffix(&revoked, suffix);
                others.push(("the list of revoked tokens".into(), file));
            }
        }
        if let Some(pid) = self.pid {
            for suffix in ["", ".new"] {
                let file = with_suffix(&state_file(pid), suffix);
                others.push(("the state file".into(), file));
            }
            others.push((
                "the directory of the workers".into(),
                workers_directory(pid),
            ));
        }
        // The mistake is in the last of two settings.
        let settings = [
            ("LOG_FILE", self.log),
            ("PID_FILE", self.pid),
            ("AUDIT_FILE", self.audit),
        ];
        for (name, path) in settings {
            let Some(path) = path else { continue };
            let rotated = settings.iter().filter(|(other, base)| {
                *other != name && base.is_some_and(|base| is_rotated_name(path, base, other))
            });
            let rotated = rotated.map(|(other, _)| format!("a rotated file of {other}"));
            let same = others.iter().filter(|(_, other)| is_same(path, other));
            let same = same.map(|(other, _)| other.clone());
            if let Some(other) = same.chain(rotated).next() {
                let message = format!("is the same file as {other}: use two different files");
                validator.add_problem(name, message);
            }
            others.push((name.to_owned(), path.to_owned()));
        }
    }
}

/// Whether both paths name one file, or would if it existed.
fn is_same(one: &Path, other: &Path) -> bool {
    let is_one_file = match (one.metadata(), other.metadata()) {
        (Ok(one), Ok(other)) => is_same_file(&one, &other),
        _ => false,
    };
    one == other
        || is_one_file
        || one.file_name() == other.file_name() && are_in_one_directory(one, other)
}

fn are_in_one_directory(one: &Path, other: &Path) -> bool {
    let directory = |path: &Path| path.parent().and_then(|it| it.metadata().ok());
    match (directory(one), directory(other)) {
        (Some(one), Some(other)) => is_same_file(&one, &other),
        _ => one.parent() == other.parent(),
    }
}

/// Whether a rotation of the file `base` of a setting renames, creates or reads `path`.
fn is_rotated_name(path: &Path, base: &Path, setting: &str) -> bool {
    let bytes = |path: &Path| path.file_name().map(|name| name.as_bytes().to_vec());
    let (Some(name), Some(base_name)) = (bytes(path), bytes(base)) else {
        return false;
    };
    let Some(suffix) = name.strip_prefix(base_name.as_slice()) else {
        return false;
    };
    let is_number = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let is_numbered = suffix.strip_prefix(b".").is_some_and(is_number);
    let is_new = suffix.starts_with(b".new");
    let is_dated = suffix.strip_prefix(b"-").is_some_and(is_number);
    let is_rotated = match setting {
        "LOG_FILE" => is_numbered || is_new || is_dated,
        "AUDIT_FILE" => is_numbered,
        _ => false,
    };
    is_rotated && are_in_one_directory(path, base)
}

fn with_suffix(path: &Path, suffix: impl AsRef<OsStr>) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

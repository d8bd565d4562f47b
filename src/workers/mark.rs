//! Names of guards and workers, in their environments: so a daemon finds the processes that it has
//! to end even if their guard was killed.

use std::ffi::OsStr;
use std::path::Path;

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use std::os::unix::ffi::OsStrExt as _;
use uuid::Uuid;

use crate::sys::{Process, hex};

/// The variable of a worker and its descendants.
pub const WORKER: &str = "FULLON_WORKER";
/// The variable of a guard.
pub const GUARD: &str = "FULLON_GUARD";
/// The length of the part that names the PID file, in bytes.
const HASH_LEN: usize = 8;

/// The name of one worker and its guard: `PID-FILE.DAEMON.UUID`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark(String);

impl Mark {
    /// A new name, for a worker of this process.
    pub fn new(pid_file: &str) -> Self {
        let daemon = std::process::id();
        Self(format!("{pid_file}.{daemon}.{}", Uuid::new_v4().simple()))
    }

    /// The name of the worker that the process is or descends from.
    pub fn of_worker(process: &Process) -> Option<Self> {
        Self::read(process, WORKER)
    }

    /// The name of the guard that the process is.
    pub fn of_guard(process: &Process) -> Option<Self> {
        Self::read(process, GUARD)
    }

    fn read(process: &Process, variable: &str) -> Option<Self> {
        let mut environment = process.environment();
        let value = environment.remove(variable)?.into_string().ok()?;
        let mut parts = value.split('.');
        let is_valid = parts.clone().count() == 3 && parts.all(|part| !part.is_empty());
        is_valid.then_some(Self(value))
    }

    /// Whether it belongs to a daemon with this PID file.
    pub fn is_of(&self, pid_file: &str) -> bool {
        self.0.split('.').next() == Some(pid_file)
    }

    /// The PID of the daemon that started it.
    pub fn daemon(&self) -> Option<u32> {
        self.0.split('.').nth(1)?.parse().ok()
    }

    /// The random part, which names files of this worker.
    pub fn unique(&self) -> &str {
        self.0.rsplit('.').next().unwrap_or_default()
    }
}

impl AsRef<OsStr> for Mark {
    fn as_ref(&self) -> &OsStr {
        self.0.as_ref()
    }
}

/// The part of a mark that names the PID file.
pub fn pid_file_hash(pid_file: &Path) -> String {
    let absolute = std::path::absolute(pid_file).unwrap_or_else(|_| pid_file.to_owned());
    let resolved = absolute.parent().and_then(|it| it.canonicalize().ok());
    let path = match (resolved, absolute.file_name()) {
        (Some(directory), Some(name)) => directory.join(name),
        _ => absolute,
    };
    let hash = digest(&SHA256, path.as_os_str().as_bytes());
    hex(&hash.as_ref()[..HASH_LEN])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mark_names_pid_file_and_daemon() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(".", &link).unwrap();
        let hash = pid_file_hash(&directory.path().join("daemon.pid"));
        assert_eq!(hash, pid_file_hash(&link.join("daemon.pid")));
        assert_ne!(hash, pid_file_hash(&link.join("other.pid")));
        let mark = Mark::new(&hash);
        assert!(mark.is_of(&hash) && !mark.is_of("other"));
        assert_eq!(mark.daemon(), Some(std::process::id()));
        assert_eq!(mark.unique().len(), 32);
        assert_ne!(mark, Mark::new(&hash));
    }
}

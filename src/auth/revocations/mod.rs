//! The tokens that were revoked before they expired: a file that every process of the user reads.
//!
//! A verification looks whether the file has changed, so all processes know of a revocation at
//! once: both of a handoff, the one after a crash, and other daemons with the same key. The command
//! line changes the file itself when no daemon runs.

mod error;
mod file;
mod list;
mod request;
mod snapshot;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use self::file::{FileState, LockedFile, read_list};
use self::list::{Index, RevokedList};
use self::snapshot::Cache;
use super::digest::ValueDigest;
use super::key::{KeyError, NewKeyFile, key_id, read_key_file, read_or_create_key_file};
use crate::config::{Secret, replaceable_directory};
use crate::sys::{Renamed, blocking};

pub use error::RevokeError;
pub use file::{LOCK_TIMEOUT, check_revocations};
pub use request::{Revocation, RevokedAll, RevokedToken};
pub(super) use snapshot::RevokedNow;

/// The clock may be this much behind the time from which on new tokens are valid. Tokens name the
/// second in which they were issued.
const TOLERANCE: SignedDuration = SignedDuration::from_secs(2);

/// The revoked tokens.
pub struct Revocations {
    /// `None` if nothing can be revoked.
    path: Option<PathBuf>,
    cache: RwLock<Cache>,
    /// Held while the file is read again, so that other requests do so once only.
    reading: Mutex<()>,
    /// Notifies streams of a change by this process.
    changes: watch::Sender<()>,
}

/// The keys whose tokens are all revoked.
#[derive(Debug, Default)]
pub struct RevokedKeys<'a> {
    /// The file of a key that this program has generated, and replaces.
    pub replaced: Option<&'a Path>,
    /// Keys that end.
    pub ended: Vec<ValueDigest>,
    /// Keys that stay, because a setting holds them.
    pub kept: Vec<ValueDigest>,
    /// Whether tokens of all other keys are revoked, too: it is unknown which keys a daemon has.
    pub is_every_key: bool,
    /// The token of a request for the same, which its command has given up. A daemon that reads the
    /// request later refuses it, also if the clock was set back.
    pub given_up: Option<RevokedToken>,
}

/// A problem of the file that the operator should know.
#[derive(Debug)]
pub struct RevocationsProblem {
    pub problem: String,
    /// How to solve it.
    pub hint: String,
}

impl std::fmt::Display for RevocationsProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.problem, self.hint)
    }
}

impl Revocations {
    /// The revocations in this file, which need not exist.
    #[must_use]
    pub fn new(path: Option<PathBuf>) -> Self {
        Self {
            path,
            cache: RwLock::new(Cache::empty()),
            reading: Mutex::new(()),
            changes: watch::Sender::new(()),
        }
    }

    /// The same, if an earlier process knew whether there is a file. A file that is missing now was
    /// removed.
    #[must_use]
    pub fn expecting(self, is_present: bool) -> Self {
        let mut cache = Cache::empty();
        if is_present {
            cache.state = FileState::Unknown;
            cache.was_present = true;
        }
        Self {
            cache: RwLock::new(cache),
            ..self
        }
    }

    /// Whether there is a file, or was one before it was removed. For the next process.
    #[must_use]
    pub fn was_present(&self) -> bool {
        self.now();
        self.last_read().was_present
    }

    /// The file that belongs to a key file, in the same directory.
    #[must_use]
    pub fn path(key_file: &Path) -> PathBuf {
        crate::config::revoked_file(key_file)
    }

    /// A receiver that is notified when this process revokes a token.
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Notifies the receivers: another process may have revoked tokens.
    pub fn notify(&self) {
        self.changes.send_replace(());
    }

    /// A problem that the operator should know: the file is unreadable, it refuses new tokens of
    /// this key because the clock was set back, or other users can remove it.
    #[must_use]
    pub fn problem(&self, key: Option<&Secret>) -> Option<RevocationsProblem> {
        self.problem_of(&self.now(), key.map(key_id))
    }

    /// Other users can remove the file, and the key file.
    #[must_use]
    pub fn directory_problem(&self) -> Option<RevocationsProblem> {
        let directory = self.path.as_ref()?.parent()?;
        let found = replaceable_directory(directory).ok()??;
        let shown = found.directory.display();
        let (writers, change) = match &found.group {
            None => ("all users".to_owned(), "o-w"),
            Some(group) => (format!("the group {group}"), "g-w"),
        };
        Some(RevocationsProblem {
            problem: format!(
                "other users can remove the signing key and the file of revoked tokens in {}: {writers} can write to {shown} (mode {:o})",
                directory.display(),
                found.mode
            ),
            hint: format!("run `chmod {change} {shown}`, or set HOME to another directory"),
        })
    }

    /// All problems of the file and its directory, for a start.
    #[must_use]
    pub fn problems(&self, key: Option<&Secret>) -> Vec<RevocationsProblem> {
        let of_list = self.list_problem(&self.now(), key.map(key_id));
        of_list
            .into_iter()
            .chain(self.directory_problem())
            .collect()
    }

    /// The same as [`Self::problem`], but as of the last verification.
    pub(super) fn last_problem(&self, key: ValueDigest) -> Option<RevocationsProblem> {
        let last = self.last_read().list.clone();
        self.problem_of(&last, Some(key))
    }

    fn problem_of(
        &self,
        list: &RevokedNow,
        key: Option<ValueDigest>,
    ) -> Option<RevocationsProblem> {
        let of_list = self.list_problem(list, key);
        of_list.or_else(|| self.directory_problem())
    }

    fn list_problem(
        &self,
        list: &RevokedNow,
        key: Option<ValueDigest>,
    ) -> Option<RevocationsProblem> {
        let shown = self.path.as_ref()?.display();
        match &*list.list {
            Err(error) => Some(RevocationsProblem {
                problem: format!(
                    "the file of revoked tokens {shown} cannot be read, so tokens of the configured key and sessions are rejected: {error}"
                ),
                hint: format!(
                    "repair or restore {shown}, or run `fullon token --revoke-all`, which replaces it; do not only remove it: revoked tokens would be valid again"
                ),
            }),
            Ok(list) => {
                let limit = list.limit(key)?;
                let limit = Timestamp::from_second(limit).ok()?;
                let is_ahead = limit.duration_since(Timestamp::now()) > TOLERANCE;
                is_ahead.then(|| RevocationsProblem {
                    problem: format!(
                        "all tokens and sessions are rejected until {limit}, because the clock was set back after all tokens were revoked"
                    ),
                    hint: "correct the clock, or set another JWT_SECRET_KEY".to_owned(),
                })
            }
        }
    }

    /// Whether `--revoke-all` has ended the key with this id.
    fn is_key_revoked(&self, key: ValueDigest) -> bool {
        self.now().is_key_revoked(key)
    }

    /// Revokes one token. Returns once that is on the disk.
    ///
    /// # Errors
    ///
    /// The limit is reached, or the file cannot be read or written. Unless
    /// [`RevokeError::has_revoked`], nothing has changed.
    pub fn revoke(&self, token: &RevokedToken) -> Result<(), RevokeError> {
        let read = |path: &Path| self.read_known(path);
        self.update(LOCK_TIMEOUT, read, |file| {
            file.list.add(&token.entry, Timestamp::now())?;
            let written = file.write()?;
            self.check_synced([written])
        })
    }

    /// Revokes every token of these keys that was issued until now. Returns once that is on the
    /// disk. Tokens of other keys are those of other daemons, and stay valid.
    ///
    /// That needs to know which tokens of other keys are revoked. If the list cannot be read,
    /// tokens of every key are revoked.
    ///
    /// # Errors
    ///
    /// Unless [`RevokeError::has_revoked`], nothing has changed.
    pub fn revoke_all(&self, keys: &RevokedKeys<'_>) -> Result<RevokedAll, RevokeError> {
        self.revoke_all_within(LOCK_TIMEOUT, keys)
    }

    /// The same, but does not wait for another process that changes the list.
    pub(super) fn try_revoke_all(&self, keys: &RevokedKeys<'_>) -> Result<RevokedAll, RevokeError> {
        self.revoke_all_within(Duration::ZERO, keys)
    }

    fn revoke_all_within(
        &self,
        patience: Duration,
        keys: &RevokedKeys<'_>,
    ) -> Result<RevokedAll, RevokeError> {
        let now = Timestamp::now();
        let read = |path: &Path| {
            Ok(self.read_known(path).unwrap_or_else(|error| {
                tracing::warn!(path = %path.display(), %error, "replacing the file of revoked tokens, which cannot be read");
                let mut list = RevokedList::default();
                list.limit_all_keys(now);
                list
            }))
        };
        self.update(patience, read, |file| {
            let list = &mut file.list;
            if keys.is_every_key {
                list.limit_all_keys(now);
            }
            match keys.replaced.map(read_key_file) {
                Some(Ok(key)) => list.end_key(key_id(&key)),
                // It is unknown which key it was.
                Some(Err(error)) if !error.is_missing() => list.limit_all_keys(now),
                _ => {}
            }
            for key in &keys.ended {
                list.end_key(*key);
            }
            for key in &keys.kept {
                list.limit_key(*key, now);
            }
            list.drop_covered();
            if let Some(token) = &keys.given_up {
                // Without room for it, it expires.
                let _ = list.add(&token.entry, now);
            }
            // A disk that has no room for the key is full before anything is revoked.
            let new_key = keys.replaced.map(NewKeyFile::write).transpose();
            let new_key = new_key.map_err(RevokeError::NewKey)?;
            let valid_from = list.valid_from(&keys.kept);
            let valid_from = valid_from.map_or(now, |limit| {
                Timestamp::from_second(limit).unwrap_or(Timestamp::MAX)
            });
            let written = file.write()?;
            let installed = new_key.map(NewKeyFile::install).transpose();
            let (new_key, renamed) = installed.map_err(RevokeError::SameKey)?.unzip();
            self.check_synced([written].into_iter().chain(renamed))?;
            Ok(RevokedAll {
                valid_from,
                new_key,
            })
        })
    }

    /// Checks a configured key.
    ///
    /// # Errors
    ///
    /// `--revoke-all` has ended it.
    pub fn check_key(&self, key: &Secret) -> Result<(), KeyError> {
        if self.is_key_revoked(key_id(key)) {
            return Err(KeyError::Revoked);
        }
        Ok(())
    }

    /// Reads the key file, and creates it if it does not exist. A key that was ended is replaced:
    /// `--revoke-all` was interrupted before it could do so.
    ///
    /// # Errors
    ///
    /// The file cannot be read or created, or is not private.
    pub fn read_or_create_key_file(&self, path: &Path) -> Result<Secret, KeyError> {
        let key = read_or_create_key_file(path)?;
        if !self.is_key_revoked(key_id(&key)) {
            return Ok(key);
        }
        let replaced = self.update(LOCK_TIMEOUT, read_list, |file| {
            let key = read_key_file(path).map_err(RevokeError::NewKey)?;
            if !file.list.has_ended(key_id(&key)) {
                return Ok(key);
            }
            let new = NewKeyFile::write(path).and_then(NewKeyFile::install);
            // A key that a power cut brings back is replaced again.
            new.map(|(key, _)| key).map_err(RevokeError::NewKey)
        });
        replaced.map_err(|error| match error {
            RevokeError::NewKey(error) => error,
            other => KeyError::Io {
                path: path.to_owned(),
                action: "replaced",
                source: io::Error::other(other),
            },
        })
    }

    /// The list as it is now.
    pub(super) fn now(&self) -> RevokedNow {
        let Some(path) = &self.path else {
            return self.last_read().list.clone();
        };
        let state = FileState::of(path);
        let unchanged = self.last_read().if_unchanged(state);
        unchanged.unwrap_or_else(|| blocking(|| self.read_again(path)))
    }

    fn read_again(&self, path: &Path) -> RevokedNow {
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let state = FileState::of(path);
        let (was_readable, was_present, reads) = {
            let last = self.last_read();
            // Another request has read it meanwhile.
            if let Some(list) = last.if_unchanged(state) {
                return list;
            }
            (last.list.list.is_ok(), last.was_present, last.list.reads)
        };
        let read = read_unless_removed(path, was_present);
        if let Err(error) = &read
            && was_readable
        {
            tracing::error!(path = %path.display(), %error, "cannot read the file of revoked tokens; rejecting tokens of the configured key");
        }
        let is_first = !was_present && read.is_ok() && state != FileState::Absent;
        let was_present = was_present || is_first;
        let list = read.map(Index::from).map_err(|error| error.to_string());
        let list = RevokedNow {
            list: Arc::new(list),
            reads: reads + 1,
        };
        let mut cache = self.cache.write().unwrap_or_else(PoisonError::into_inner);
        *cache = Cache {
            state,
            list: list.clone(),
            was_present,
        };
        drop(cache);
        if is_first {
            // The daemon records that there is a file.
            self.notify();
        }
        list
    }

    /// Reads the list to change it.
    fn read_known(&self, path: &Path) -> io::Result<RevokedList> {
        self.now();
        let was_present = self.last_read().was_present;
        read_unless_removed(path, was_present)
    }

    fn last_read(&self) -> RwLockReadGuard<'_, Cache> {
        self.cache.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the file under its lock, for which it waits at most for `patience`.
    fn update<T>(
        &self,
        patience: Duration,
        read: impl FnOnce(&Path) -> io::Result<RevokedList>,
        change: impl FnOnce(&mut LockedFile<'_>) -> Result<T, RevokeError>,
    ) -> Result<T, RevokeError> {
        let path = self.path.as_ref().ok_or(RevokeError::NoFile)?;
        let changed = LockedFile::change(path, patience, read, change);
        // From now on this process knows that there is a file.
        self.now();
        self.notify();
        changed
    }

    /// Fails if a power cut may undo a change.
    fn check_synced(&self, renamed: impl IntoIterator<Item = Renamed>) -> Result<(), RevokeError> {
        let failed = renamed.into_iter().find_map(|renamed| match renamed {
            Renamed::Synced => None,
            Renamed::NotSynced(source) => Some(source),
        });
        match (failed, &self.path) {
            (Some(source), Some(path)) => Err(RevokeError::NotSynced {
                path: path.clone(),
                source,
            }),
            _ => Ok(()),
        }
    }
}

/// Reads the list. A file that was there before has not become an empty list.
fn read_unless_removed(path: &Path, was_present: bool) -> io::Result<RevokedList> {
    if was_present && FileState::of(path) == FileState::Absent {
        return Err(io::Error::other("it was removed"));
    }
    read_list(path)
}

#[cfg(test)]
mod tests;

//! The tokens that were revoked before they expired: a file that every process of the user reads.
//!
//! A verification looks whether the file has changed, so all processes know of a revocation at
//! once: both of a handoff, the one after a crash, and other daemons with the same key. The command
//! line changes the file itself when no daemon runs.

mod error;
mod file;
mod list;
mod request;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use self::file::{FileState, LockedFile, read_list};
use self::list::{Index, RevokedList};
use super::digest::ValueDigest;
use super::key::{KeyError, NewKeyFile, key_id, read_key_file, read_or_create_key_file};
use super::token::{TokenError, TokenMark};
use crate::config::Secret;
use crate::sys::Renamed;

pub use error::RevokeError;
pub use file::check_revocations;
pub use request::{Revocation, RevokedAll, RevokedToken};

/// The clock may be this much behind the time from which on new tokens are valid. Tokens name the
/// second in which they were issued.
const TOLERANCE: SignedDuration = SignedDuration::from_secs(2);

/// The revoked tokens.
pub struct Revocations {
    /// `None` if nothing can be revoked.
    path: Option<PathBuf>,
    cache: Mutex<Cache>,
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
}

/// The list as it was last read, and the state of the file then.
struct Cache {
    state: FileState,
    list: Result<Index, String>,
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
            cache: Mutex::new(Cache {
                state: FileState::Absent,
                list: Ok(Index::default()),
            }),
            changes: watch::Sender::new(()),
        }
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

    /// A problem that the operator should know: the file is unreadable, or it refuses new tokens
    /// of this key because the clock was set back.
    #[must_use]
    pub fn problem(&self, key: Option<&Secret>) -> Option<RevocationsProblem> {
        let shown = self.path.as_ref()?.display();
        self.with_list(|list| match list {
            Err(error) => Some(RevocationsProblem {
                problem: format!(
                    "the file of revoked tokens {shown} cannot be read, so tokens of the configured key and sessions are rejected: {error}"
                ),
                hint: format!(
                    "repair {shown}, or run `fullon token --revoke-all`, which replaces it; do not only remove it: revoked tokens would be valid again"
                ),
            }),
            Ok(list) => {
                let limit = list.limit(key.map(key_id))?;
                let limit = Timestamp::from_second(limit).ok()?;
                let is_ahead = limit.duration_since(Timestamp::now()) > TOLERANCE;
                is_ahead.then(|| RevocationsProblem {
                    problem: format!(
                        "all tokens and sessions are rejected until {limit}, because the clock was set back after all tokens were revoked"
                    ),
                    hint: "correct the clock, or set another JWT_SECRET_KEY".to_owned(),
                })
            }
        })
    }

    /// Checks that a token is not revoked.
    pub(super) fn check(&self, token: &TokenMark) -> Result<(), TokenError> {
        self.with_list(|list| {
            let Ok(list) = list else {
                // The instance key ends with the daemon, and local commands keep working.
                return if token.is_of_instance {
                    Ok(())
                } else {
                    Err(TokenError::RevocationsUnreadable)
                };
            };
            let is_too_old = !token.is_of_instance
                && list
                    .limit(token.key)
                    .is_some_and(|limit| token.issued_at.is_none_or(|issued| issued < limit));
            let has_revoked_id = token.id.as_ref().is_some_and(|id| list.ids.contains(id));
            let has_revoked_key = token.key.is_some_and(|key| list.keys.contains(&key));
            if is_too_old
                || has_revoked_id
                || has_revoked_key
                || list.digests.contains(&token.digest)
            {
                return Err(TokenError::Revoked);
            }
            Ok(())
        })
    }

    /// Whether `--revoke-all` has ended the key with this id.
    pub(super) fn is_key_revoked(&self, key: ValueDigest) -> bool {
        self.with_list(|list| list.is_ok_and(|list| list.keys.contains(&key)))
    }

    /// Checks that a session that was created then is not revoked, nor its token, nor the
    /// configured key at that time.
    pub(super) fn check_session(
        &self,
        created_at: Timestamp,
        token: &TokenMark,
        key: ValueDigest,
    ) -> Result<(), TokenError> {
        self.check(token)?;
        self.with_list(|list| {
            let Ok(list) = list else {
                return Err(TokenError::RevocationsUnreadable);
            };
            let limit = list.limit(Some(key));
            if limit.is_some_and(|limit| created_at.as_second() < limit) || list.keys.contains(&key)
            {
                return Err(TokenError::Revoked);
            }
            Ok(())
        })
    }

    /// Revokes one token. Returns once that is on the disk.
    ///
    /// # Errors
    ///
    /// The limit is reached, or the file cannot be read or written. Unless
    /// [`RevokeError::has_revoked`], nothing has changed.
    pub fn revoke(&self, token: &RevokedToken) -> Result<(), RevokeError> {
        self.update(read_list, |file| {
            if !file.list.add(&token.entry, Timestamp::now()) {
                return Err(RevokeError::Full);
            }
            let written = file.write()?;
            self.check_synced([written])
        })
    }

    /// Revokes every token of these keys that was issued until now. Returns once that is on the
    /// disk. Tokens of other keys are those of other daemons, and stay valid.
    ///
    /// That needs to know which tokens of other keys are revoked. If the list cannot be read, or
    /// has little room, tokens of every key are revoked.
    ///
    /// # Errors
    ///
    /// Unless [`RevokeError::has_revoked`], nothing has changed.
    pub fn revoke_all(&self, keys: &RevokedKeys<'_>) -> Result<RevokedAll, RevokeError> {
        let now = Timestamp::now();
        let read = |path: &Path| {
            Ok(read_list(path).unwrap_or_else(|error| {
                tracing::warn!(path = %path.display(), %error, "replacing the file of revoked tokens, which cannot be read");
                let mut list = RevokedList::default();
                list.limit_all_keys(now);
                list
            }))
        };
        self.update(read, |file| {
            let list = &mut file.list;
            list.make_room(now);
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
        let replaced = self.update(read_list, |file| {
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

    /// Calls `check` with the current list, or the reason why it is unknown.
    fn with_list<T>(&self, check: impl FnOnce(Result<&Index, &String>) -> T) -> T {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(path) = &self.path else {
            return check(cache.list.as_ref());
        };
        let state = FileState::of(path);
        if state == FileState::Unknown || state != cache.state || cache.list.is_err() {
            let read = read_list(path);
            if let Err(error) = &read
                && cache.list.is_ok()
            {
                tracing::error!(path = %path.display(), %error, "cannot read the file of revoked tokens; rejecting tokens of the configured key");
            }
            cache.list = read.map(Index::from).map_err(|error| error.to_string());
            cache.state = state;
        }
        check(cache.list.as_ref())
    }

    /// Changes the file under its lock.
    fn update<T>(
        &self,
        read: impl FnOnce(&Path) -> io::Result<RevokedList>,
        change: impl FnOnce(&mut LockedFile<'_>) -> Result<T, RevokeError>,
    ) -> Result<T, RevokeError> {
        let path = self.path.as_ref().ok_or(RevokeError::NoFile)?;
        let changed = LockedFile::change(path, read, change);
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

#[cfg(test)]
mod tests;

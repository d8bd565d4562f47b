//! The tokens that were revoked before they expired: a file that every process of the user reads.
//!
//! A verification looks whether the file has changed, so all processes know of a revocation at
//! once: both of a handoff, the one after a crash, and other daemons with the same key. The command
//! line changes the file itself when no daemon runs.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::watch;

use super::digest::ValueDigest;
use super::key::{KeyError, NewKeyFile, key_id, read_key_file, read_or_create_key_file};
use super::token::{TokenError, TokenMark, UnverifiedToken, contains_token};
use crate::config::Secret;
use crate::sys::{OpenError, adopt_owner, create_beside, is_trusted_owner, open_private, try_lock};

/// Limit on revoked tokens.
const MAX_REVOKED: usize = 10_000;
/// How many of them are kept when all tokens are revoked, so that there is room for others.
const MAX_KEPT: usize = 9_000;
/// Limit on revoked keys. Every running process has another key long before the first is dropped.
const MAX_KEYS: usize = 100;
/// How long a revocation outlasts its token, because the clock may be set back.
const MARGIN: SignedDuration = SignedDuration::from_hours(24);
/// How long a revocation by id is kept: as long as a token can be valid.
const MAX_LIFETIME: SignedDuration = SignedDuration::from_hours(366 * 24);
/// The longest id.
const MAX_ID_LEN: usize = 256;
/// A larger file is not one of ours: 10,000 entries with the longest ids need 7 MB.
const MAX_FILE_SIZE: u64 = 16 * 1024 * 1024;
/// How long a change waits for one of another process, which takes milliseconds.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
const LOCK_RETRY_INTERVAL: Duration = Duration::from_millis(5);
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

/// The token to revoke.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RevokedToken {
    /// The token itself. Its digest is kept.
    Token(String),
    /// Every token with this `jti`.
    Id(String),
}

/// All tokens are revoked.
#[derive(Debug)]
pub struct RevokedAll {
    /// From when on new tokens are valid.
    pub valid_from: Timestamp,
    /// The new signing key, if the key file was replaced.
    pub new_key: Option<Secret>,
}

/// A token cannot be revoked.
#[derive(Debug, Error)]
pub enum RevokeError {
    /// The text is not a token.
    #[error("the token is malformed, so it was not revoked: check that it is complete")]
    Malformed,
    /// The text is not an id.
    #[error(
        "an id has 1 to {MAX_ID_LEN} visible ASCII characters; a token with another id can be revoked as a whole"
    )]
    InvalidId,
    /// The id is a token.
    #[error("the id is a token, so nothing was revoked: give it as `token`")]
    TokenAsId,
    /// The limit is reached.
    #[error(
        "{MAX_REVOKED} tokens are revoked already: revoke all tokens instead (`fullon token --revoke-all`)"
    )]
    Full,
    /// Reading the file failed.
    #[error(
        "nothing was revoked: the file of revoked tokens {path} cannot be read: {source}; repair it, or revoke all tokens (`fullon token --revoke-all`), which replaces it"
    )]
    Read { path: PathBuf, source: io::Error },
    /// Writing the file failed.
    #[error("nothing was revoked: the file of revoked tokens {path} cannot be written: {source}")]
    Write { path: PathBuf, source: io::Error },
    /// The new key could not be prepared.
    #[error("nothing was revoked: {0}")]
    NewKey(#[source] KeyError),
    /// The key file could not be replaced after the tokens were revoked.
    #[error(
        "all tokens are revoked, and the signing key is no longer accepted, but there is no new one: {0}; repeat it, or restart the daemon"
    )]
    SameKey(#[source] KeyError),
    /// There is no directory for the file.
    #[error("nothing was revoked: there is no directory for the file of revoked tokens: set HOME")]
    NoFile,
}

/// The content of the file. The names of the fields are part of its format.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct RevokedList {
    /// Tokens that were issued before this time are revoked, in seconds.
    #[serde(default)]
    not_before: Option<i64>,
    #[serde(default)]
    tokens: Vec<Entry>,
    /// Ids of keys whose tokens are revoked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    keys: Vec<ValueDigest>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    jti: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<ValueDigest>,
    /// When the token expires.
    exp: Timestamp,
    /// When the token was issued, in seconds, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    iat: Option<i64>,
    /// Whether the token is for the instance key.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    instance: bool,
}

impl Entry {
    /// Whether the time from which on new tokens are valid also refuses the token.
    fn is_issued_before(&self, limit: i64) -> bool {
        !self.instance && self.iat.is_some_and(|issued| issued < limit)
    }
}

/// The list as verifications use it.
#[derive(Default)]
struct Index {
    not_before: Option<i64>,
    ids: HashSet<String>,
    digests: HashSet<ValueDigest>,
    keys: HashSet<ValueDigest>,
}

impl From<RevokedList> for Index {
    fn from(list: RevokedList) -> Self {
        let mut index = Self {
            not_before: list.not_before,
            keys: list.keys.into_iter().collect(),
            ..Self::default()
        };
        for entry in list.tokens {
            index.ids.extend(entry.jti);
            index.digests.extend(entry.digest);
        }
        index
    }
}

/// The list as it was last read, and the state of the file then.
struct Cache {
    state: FileState,
    list: Result<Index, String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum FileState {
    /// It has to be read.
    Unknown,
    Absent,
    Present(Stamp),
}

/// Identifies a state of the file.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileState {
    fn of(path: &Path) -> Self {
        match fs::symlink_metadata(path) {
            Ok(metadata) => Self::Present(Stamp {
                file: (metadata.dev(), metadata.ino()),
                size: metadata.size(),
                modified: (metadata.mtime(), metadata.mtime_nsec()),
                changed: (metadata.ctime(), metadata.ctime_nsec()),
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::Absent,
            Err(_) => Self::Unknown,
        }
    }
}

impl RevokedToken {
    /// The name in the audit trail: the `jti` of the token, or else the digest of its header and
    /// claims.
    #[must_use]
    pub fn audit_name(&self) -> String {
        match self {
            Self::Id(id) if check_id(id).is_ok() => format!("jti {id}"),
            Self::Id(_) => "invalid jti".to_owned(),
            Self::Token(token) => match UnverifiedToken::parse(token) {
                None => "malformed".to_owned(),
                Some(UnverifiedToken { id: Some(id), .. }) if check_id(&id).is_ok() => {
                    format!("jti {id}")
                }
                Some(UnverifiedToken { digest, .. }) => format!("digest {digest:?}"),
            },
        }
    }

    /// Checks that it can be revoked.
    ///
    /// # Errors
    ///
    /// It is no token, or no id.
    pub fn check(&self) -> Result<(), RevokeError> {
        self.to_entry(Timestamp::now()).map(drop)
    }

    fn to_entry(&self, now: Timestamp) -> Result<Entry, RevokeError> {
        match self {
            Self::Id(id) => {
                check_id(id)?;
                Ok(Entry {
                    jti: Some(id.clone()),
                    digest: None,
                    exp: now.saturating_add(MAX_LIFETIME).unwrap_or(Timestamp::MAX),
                    iat: None,
                    instance: false,
                })
            }
            Self::Token(token) => {
                let token = UnverifiedToken::parse(token).ok_or(RevokeError::Malformed)?;
                Ok(Entry {
                    jti: None,
                    digest: Some(token.digest),
                    exp: token.expires_at,
                    iat: token.issued_at,
                    instance: token.is_of_instance,
                })
            }
        }
    }
}

fn check_id(id: &str) -> Result<(), RevokeError> {
    if contains_token(id) {
        return Err(RevokeError::TokenAsId);
    }
    let is_valid =
        (1..=MAX_ID_LEN).contains(&id.len()) && id.bytes().all(|it| it.is_ascii_graphic());
    is_valid.then_some(()).ok_or(RevokeError::InvalidId)
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
    /// because the clock was set back.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let shown = self.path.as_ref()?.display();
        self.with_list(|list| match list {
            Err(error) => Some(format!(
                "the file of revoked tokens {shown} cannot be read, so tokens of the configured key are rejected: {error}; repair it, or replace it with `fullon token --revoke-all`"
            )),
            Ok(list) => {
                let limit = Timestamp::from_second(list.not_before?).ok()?;
                let is_ahead = limit.duration_since(Timestamp::now()) > TOLERANCE;
                is_ahead.then(|| format!(
                    "all tokens and sessions are rejected until {limit}, because the clock was set back after all tokens were revoked: correct the clock, or replace JWT_SECRET_KEY and remove {shown}"
                ))
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
                    .not_before
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
            let Ok(list) = list else { return Ok(()) };
            let limit = list.not_before;
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
    /// The text is no token, the limit is reached, or the file cannot be read or written.
    pub fn revoke(&self, token: &RevokedToken) -> Result<(), RevokeError> {
        let now = Timestamp::now();
        let entry = token.to_entry(now)?;
        self.update(read_list, |file| {
            let tokens = &mut file.list.tokens;
            if tokens.len() >= MAX_REVOKED {
                // Not earlier: the clock may have been ahead.
                tokens.retain(|other| other.exp.saturating_add(MARGIN).is_ok_and(|end| end > now));
            }
            let is_same = |other: &Entry| (&other.jti, other.digest) == (&entry.jti, entry.digest);
            if let Some(known) = tokens.iter_mut().find(|other| is_same(other)) {
                known.exp = known.exp.max(entry.exp);
            } else if tokens.len() < MAX_REVOKED {
                tokens.push(entry.clone());
            } else {
                return Err(RevokeError::Full);
            }
            file.write()
        })
    }

    /// Revokes every token that was issued until now, and all tokens of the keys with the ids
    /// `ended`. Replaces the key in `key_file`, if given. Returns once that is on the disk.
    ///
    /// A list that cannot be read is replaced: its tokens were issued before.
    ///
    /// # Errors
    ///
    /// Nothing has changed, except with [`RevokeError::SameKey`].
    pub(super) fn revoke_all(
        &self,
        key_file: Option<&Path>,
        ended: &[ValueDigest],
    ) -> Result<RevokedAll, RevokeError> {
        let read = |path: &Path| {
            Ok(read_list(path).unwrap_or_else(|error| {
                tracing::warn!(path = %path.display(), %error, "replacing the file of revoked tokens, which cannot be read");
                RevokedList::default()
            }))
        };
        self.update(read, |file| {
            let replaced = key_file.and_then(|path| read_key_file(path).ok());
            // A disk that has no room for the key is full before anything is revoked.
            let key_file = key_file.map(NewKeyFile::write).transpose();
            let key_file = key_file.map_err(RevokeError::NewKey)?;
            // The clock may have been set back.
            let limit = Timestamp::now().as_second() + 1;
            let limit = limit.max(file.list.not_before.unwrap_or(limit));
            file.list.not_before = Some(limit);
            let RevokedList { tokens, keys, .. } = &mut file.list;
            tokens.retain(|entry| !entry.is_issued_before(limit));
            let mut superfluous = tokens.len().saturating_sub(MAX_KEPT);
            // The others are known to be valid again without their entries.
            tokens.retain(|entry| {
                let is_dropped = superfluous > 0 && entry.iat.is_none();
                superfluous -= usize::from(is_dropped);
                !is_dropped
            });
            tokens.drain(..superfluous);
            for key in replaced.iter().map(key_id).chain(ended.iter().copied()) {
                if !keys.contains(&key) {
                    keys.push(key);
                }
            }
            keys.drain(..keys.len().saturating_sub(MAX_KEYS));
            file.write()?;
            let new_key = key_file.map(NewKeyFile::install).transpose();
            Ok(RevokedAll {
                valid_from: Timestamp::from_second(limit).unwrap_or(Timestamp::MAX),
                new_key: new_key.map_err(RevokeError::SameKey)?,
            })
        })
    }

    /// Revokes every token without a daemon. Otherwise as [`super::ConfiguredKeys::revoke_all`].
    ///
    /// # Errors
    ///
    /// Nothing has changed, except with [`RevokeError::SameKey`].
    pub fn revoke_all_offline(&self, key_file: Option<&Path>) -> Result<RevokedAll, RevokeError> {
        self.revoke_all(key_file, &[])
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
            if !file.list.keys.contains(&key_id(&key)) {
                return Ok(key);
            }
            let new = NewKeyFile::write(path).and_then(NewKeyFile::install);
            new.map_err(RevokeError::NewKey)
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
        let failed = |source| RevokeError::Write {
            path: path.clone(),
            source,
        };
        // The file itself is replaced, so its lock is that of a file beside it, which stays.
        let lock_file = open_lock_file(path).map_err(failed)?;
        let deadline = Instant::now() + LOCK_TIMEOUT;
        let _lock = loop {
            match try_lock(&lock_file, true).map_err(failed)? {
                Some(lock) => break lock,
                None if Instant::now() < deadline => std::thread::sleep(LOCK_RETRY_INTERVAL),
                None => return Err(failed(io::Error::other("another process has locked it"))),
            }
        };
        let list = read(path).map_err(|source| RevokeError::Read {
            path: path.clone(),
            source,
        })?;
        let changed = change(&mut LockedFile { path, list });
        self.notify();
        changed
    }
}

/// The file while it is changed.
struct LockedFile<'a> {
    path: &'a Path,
    list: RevokedList,
}

impl LockedFile<'_> {
    fn write(&self) -> Result<(), RevokeError> {
        let failed = |source| RevokeError::Write {
            path: self.path.to_owned(),
            source,
        };
        let text = serde_json::to_vec(&self.list).map_err(|error| failed(error.into()))?;
        if text.len() as u64 > MAX_FILE_SIZE {
            return Err(RevokeError::Full);
        }
        replace(self.path, &text).map_err(failed)
    }
}

/// Checks that the file of revoked tokens, if there is one, can be read.
///
/// # Errors
///
/// It cannot.
pub fn check_revocations(path: &Path) -> Result<(), io::Error> {
    read_list(path).map(drop)
}

/// Reads the file. No file is an empty list.
fn read_list(path: &Path) -> io::Result<RevokedList> {
    let (file, metadata) = match open_private(path, OpenOptions::new().read(true)) {
        Ok(opened) => opened,
        Err(OpenError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(RevokedList::default());
        }
        Err(OpenError::Io { source, .. }) => return Err(source),
        Err(OpenError::Unusable(reason)) => return Err(io::Error::other(format!("it {reason}"))),
    };
    if !is_trusted_owner(path, metadata.uid()) {
        return Err(io::Error::other("it belongs to another user"));
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(io::Error::other("other users can write it"));
    }
    if metadata.size() > MAX_FILE_SIZE {
        return Err(io::Error::other("it is too large"));
    }
    let mut text = String::new();
    file.take(MAX_FILE_SIZE).read_to_string(&mut text)?;
    Ok(serde_json::from_str(&text)?)
}

fn open_lock_file(path: &Path) -> io::Result<File> {
    let lock_path = path.with_extension("revoked.lock");
    let open = |options: &mut OpenOptions| {
        let opened = open_private(&lock_path, options.write(true).mode(0o600));
        opened.map(|(file, _)| file).map_err(|error| match error {
            OpenError::Io { source, .. } => source,
            OpenError::Unusable(reason) => {
                io::Error::other(format!("the lock file {} {reason}", lock_path.display()))
            }
        })
    };
    match open(OpenOptions::new().create_new(true)) {
        Ok(file) => {
            adopt_owner(&file, path)?;
            Ok(file)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => open(&mut OpenOptions::new()),
        Err(error) => Err(error),
    }
}

/// Replaces the file. It is on the disk afterwards.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let (temporary, mut file) = create_beside(path)?;
    let mut write = || {
        adopt_owner(&file, path)?;
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })?;
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(id: &str, issued_at: i64) -> TokenMark {
        TokenMark {
            id: Some(id.into()),
            digest: ValueDigest::of(id),
            issued_at: Some(issued_at),
            is_of_instance: false,
            key: None,
        }
    }

    #[test]
    fn other_processes_know_of_a_revocation_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = Some(directory.path().join("x.revoked"));
        let [one, other] = [(); 2].map(|()| Revocations::new(path.clone()));
        let now = Timestamp::now().as_second();
        let [first, second] = ["first", "second"].map(|id| mark(id, now));
        assert_eq!(other.check(&first), Ok(()));
        one.revoke(&RevokedToken::Id("first".into())).unwrap();
        for revocations in [&one, &other] {
            assert_eq!(revocations.check(&first), Err(TokenError::Revoked));
            assert_eq!(revocations.check(&second), Ok(()));
        }
        let limit = other.revoke_all(None, &[]).unwrap().valid_from.as_second();
        let of_instance = TokenMark {
            is_of_instance: true,
            ..second.clone()
        };
        let undated = TokenMark {
            issued_at: None,
            ..second.clone()
        };
        for (token, expected) in [
            (&second, Err(TokenError::Revoked)),
            (&undated, Err(TokenError::Revoked)),
            (&of_instance, Ok(())),
            (&mark("third", limit), Ok(())),
        ] {
            assert_eq!(one.check(token), expected, "{token:?}");
        }
    }

    #[test]
    fn unreadable_file_refuses_tokens_of_the_configured_key() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.revoked");
        let revocations = Revocations::new(Some(path.clone()));
        let token = mark("first", 1);
        fs::write(&path, "{").unwrap();
        let unreadable = Err(TokenError::RevocationsUnreadable);
        assert_eq!(revocations.check(&token), unreadable);
        let of_instance = TokenMark {
            is_of_instance: true,
            ..token.clone()
        };
        assert_eq!(revocations.check(&of_instance), Ok(()));
        let one = RevokedToken::Id("second".into());
        assert!(matches!(
            revocations.revoke(&one),
            Err(RevokeError::Read { .. })
        ));
        // No entry is needed for what was issued before.
        revocations.revoke_all(None, &[]).unwrap();
        assert_eq!(revocations.check(&token), Err(TokenError::Revoked));
        revocations.revoke(&one).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(revocations.check(&token), Ok(()));
    }

    #[test]
    fn list_is_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.revoked");
        let entry = |number: usize| Entry {
            jti: Some(number.to_string()),
            digest: None,
            exp: Timestamp::MAX,
            iat: None,
            instance: false,
        };
        let list = RevokedList {
            tokens: (0..MAX_REVOKED).map(entry).collect(),
            ..RevokedList::default()
        };
        replace(&path, &serde_json::to_vec(&list).unwrap()).unwrap();
        let revocations = Revocations::new(Some(path));
        // One that is listed already needs no room.
        revocations.revoke(&RevokedToken::Id("7".into())).unwrap();
        let full = revocations.revoke(&RevokedToken::Id("another".into()));
        assert!(matches!(full, Err(RevokeError::Full)));
        revocations.revoke_all(None, &[]).unwrap();
        revocations
            .revoke(&RevokedToken::Id("another".into()))
            .unwrap();
    }

    #[test]
    fn longest_ids_fit_into_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.revoked");
        // Quotation marks take two bytes each.
        let id = |number: usize| format!("{number:\"<MAX_ID_LEN$}");
        let entry = |number| {
            RevokedToken::Id(id(number))
                .to_entry(Timestamp::now())
                .unwrap()
        };
        let list = RevokedList {
            tokens: (0..MAX_REVOKED - 1).map(entry).collect(),
            ..RevokedList::default()
        };
        replace(&path, &serde_json::to_vec(&list).unwrap()).unwrap();
        let revocations = Revocations::new(Some(path.clone()));
        revocations
            .revoke(&RevokedToken::Id(id(MAX_REVOKED)))
            .unwrap();
        read_list(&path).unwrap();
        for invalid in [&"a".repeat(MAX_ID_LEN + 1), "", "\u{1}", "\u{e9}", "a b"] {
            let token = RevokedToken::Id(invalid.into());
            assert!(
                matches!(token.check(), Err(RevokeError::InvalidId)),
                "{invalid:?}"
            );
        }
    }

    #[test]
    fn token_is_no_id() {
        let token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJtZSJ9.c2lnbmF0dXJl";
        let (part, _) = token.rsplit_once('.').unwrap();
        for text in [
            token,
            part,
            &token[1..],
            &format!("Bearer {token}"),
            &format!("x:{token}"),
        ] {
            let id = RevokedToken::Id(text.into());
            assert!(matches!(id.check(), Err(RevokeError::TokenAsId)), "{text}");
            assert_eq!(id.audit_name(), "invalid jti");
        }
        for text in ["a.b.c", "eyJhbGciOiJIUzI1NiJ9", "eyJ.x.y", "0c4b8a52-8a0c"] {
            RevokedToken::Id(text.into()).check().unwrap();
        }
    }

    #[test]
    fn revoking_all_keeps_tokens_that_were_issued_ahead_of_the_clock() {
        let directory = tempfile::tempdir().unwrap();
        let revocations = Revocations::new(Some(directory.path().join("x.revoked")));
        let now = Timestamp::now().as_second();
        let entry = |number: usize, iat| Entry {
            jti: None,
            digest: Some(ValueDigest::of(&number.to_string())),
            exp: Timestamp::MAX,
            iat,
            instance: false,
        };
        let early = entry(0, Some(now + 600));
        let others = (1..MAX_REVOKED).map(|number| entry(number, None));
        let list = RevokedList {
            tokens: [early.clone()].into_iter().chain(others).collect(),
            ..RevokedList::default()
        };
        let path = revocations.path.clone().unwrap();
        replace(&path, &serde_json::to_vec(&list).unwrap()).unwrap();
        revocations.revoke_all(None, &[]).unwrap();
        let kept = read_list(&path).unwrap().tokens;
        assert_eq!((kept.len(), &kept[0]), (MAX_KEPT, &early));
    }
}

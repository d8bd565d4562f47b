//! The list at one moment, as verifications use it.

use std::sync::Arc;

use jiff::Timestamp;

use super::file::FileState;
use super::list::{Index, MAX_KEYS};
use crate::auth::digest::ValueDigest;
use crate::auth::token::{TokenError, TokenMark};

/// The list at one moment, or the reason why it is unknown. All checks of a request use the same
/// one, which costs one look at the file.
#[derive(Clone)]
pub struct RevokedNow {
    pub(super) list: Arc<Result<Index, String>>,
    /// How often the file was read.
    pub reads: u64,
}

/// The keys of a process in the list.
pub struct ListedKeys {
    /// Whether the current key has ended.
    pub is_current_ended: bool,
    pub is_previous_ended: bool,
    /// From when on tokens of the current key are valid, in seconds.
    pub limit: Option<i64>,
    /// Whether keys that ended long ago may be missing.
    pub is_incomplete: bool,
}

impl RevokedNow {
    /// Checks that a token is not revoked.
    pub fn check(&self, token: &TokenMark) -> Result<(), TokenError> {
        let Ok(list) = &*self.list else {
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
        if is_too_old || has_revoked_id || has_revoked_key || list.digests.contains(&token.digest) {
            return Err(TokenError::Revoked);
        }
        Ok(())
    }

    /// The keys of a process in the list. If that is unknown, they are not in it.
    pub fn look_up(&self, current: ValueDigest, previous: Option<ValueDigest>) -> ListedKeys {
        let list = (*self.list).as_ref().ok();
        let is_previous_ended = previous.is_some_and(|key| self.is_key_revoked(key));
        ListedKeys {
            is_current_ended: self.is_key_revoked(current),
            is_previous_ended,
            limit: list.and_then(|list| list.limit(Some(current))),
            is_incomplete: list.is_some_and(|list| list.keys.len() >= MAX_KEYS),
        }
    }

    /// Whether `--revoke-all` has ended the key with this id.
    pub fn is_key_revoked(&self, key: ValueDigest) -> bool {
        let list = (*self.list).as_ref();
        list.is_ok_and(|list| list.keys.contains(&key))
    }

    /// Checks that a session that was created then is not revoked, nor its token, nor the
    /// configured key at that time.
    pub fn check_session(
        &self,
        created_at: Timestamp,
        token: &TokenMark,
        key: ValueDigest,
    ) -> Result<(), TokenError> {
        self.check(token)?;
        let Ok(list) = &*self.list else {
            return Err(TokenError::RevocationsUnreadable);
        };
        let limit = list.limit(Some(key));
        if limit.is_some_and(|limit| created_at.as_second() < limit) || list.keys.contains(&key) {
            return Err(TokenError::Revoked);
        }
        Ok(())
    }
}

/// The list as it was last read, and the state of the file then.
pub(super) struct Cache {
    pub state: FileState,
    pub list: RevokedNow,
    /// Whether this process has read a file, which nothing removes.
    pub was_present: bool,
}

impl Cache {
    /// Without a file.
    pub fn empty() -> Self {
        Self {
            state: FileState::Absent,
            list: RevokedNow {
                list: Arc::new(Ok(Index::default())),
                reads: 0,
            },
            was_present: false,
        }
    }

    /// The list, if the file is still in the state in which it was read.
    pub fn if_unchanged(&self, state: FileState) -> Option<RevokedNow> {
        let is_known = state != FileState::Unknown && self.list.list.is_ok();
        (is_known && state == self.state).then(|| self.list.clone())
    }
}

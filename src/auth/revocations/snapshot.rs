//! The list at one moment, as verifications use it.

use std::sync::Arc;

use jiff::Timestamp;

use super::file::FileState;
use super::list::Index;
use crate::auth::digest::ValueDigest;
use crate::auth::token::{TokenError, TokenMark};

/// The list at one moment, or the reason why it is unknown. All checks of a request use the same
/// one, which costs one look at the file.
#[derive(Clone)]
pub struct RevokedNow(pub(super) Arc<Result<Index, String>>);

impl RevokedNow {
    /// Checks that a token is not revoked.
    pub fn check(&self, token: &TokenMark) -> Result<(), TokenError> {
        let Ok(list) = &*self.0 else {
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

    /// Whether `--revoke-all` has ended the key with this id.
    pub fn is_key_revoked(&self, key: ValueDigest) -> bool {
        let list = (*self.0).as_ref();
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
        let Ok(list) = &*self.0 else {
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
}

impl Cache {
    /// Without a file.
    pub fn empty() -> Self {
        Self {
            state: FileState::Absent,
            list: RevokedNow(Arc::new(Ok(Index::default()))),
        }
    }

    /// The list, if the file is still in the state in which it was read.
    pub fn if_unchanged(&self, state: FileState) -> Option<RevokedNow> {
        let is_known = state != FileState::Unknown && self.list.0.is_ok();
        (is_known && state == self.state).then(|| self.list.clone())
    }
}

//! Which sessions are valid.

use jiff::Timestamp;

use super::stored::{StoredSession, StoredSessions};
use crate::auth::keyring::ConfiguredKeys;
use crate::auth::revocations::RevokedNow;

/// Which sessions are valid at one moment.
pub(super) struct Validity<'a> {
    pub now: Timestamp,
    pub revoked: RevokedNow,
    pub keys: &'a ConfiguredKeys,
    /// The sessions of the process that serves instead of this one.
    pub of_successor: Option<StoredSessions>,
}

impl Validity<'_> {
    pub fn is_valid(&self, session: &StoredSession) -> bool {
        let has_ended = self.of_successor.as_ref().is_some_and(|sessions| {
            let mut ids = sessions.0.iter().map(|other| other.id);
            !ids.any(|id| id == session.id)
        });
        let checked = self
            .revoked
            .check_session(session.created_at, &session.token, session.key);
        session.expires_at > self.now
            && self.keys.has_key(session.key)
            && checked.is_ok()
            && !has_ended
    }
}

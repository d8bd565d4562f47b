//! The sessions that were revoked before they expired.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// How many revoked sessions are remembered one by one.
const MAX_REVOKED: usize = 256;

/// Identifies a session. Ordered by expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct SessionId {
    pub expires_at: Timestamp,
    pub id: Uuid,
}

/// The sessions that were revoked, by this process and by those before it. Expired ones are kept
/// too, because the clock may be set back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokedSessions {
    sessions: BTreeSet<SessionId>,
    /// Every session that expires until then is revoked. Set when there are too many to remember:
    /// some page may be signed out early, but no revoked session becomes valid again.
    until: Option<Timestamp>,
}

impl RevokedSessions {
    pub(super) fn add(&mut self, session: SessionId) {
        self.sessions.insert(session);
        if self.sessions.len() > MAX_REVOKED
            && let Some(first) = self.sessions.pop_first()
        {
            self.until = self.until.max(Some(first.expires_at));
        }
    }

    pub(super) fn contains(&self, session: &SessionId) -> bool {
        Some(session.expires_at) <= self.until || self.sessions.contains(session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revoked_list_is_bounded_and_never_forgets() {
        let session = |seconds: i64| SessionId {
            id: Uuid::new_v4(),
            expires_at: Timestamp::from_second(1_000_000 + seconds).unwrap(),
        };
        let mut revoked = RevokedSessions::default();
        let all: Vec<_> = (0..2000).map(session).collect();
        for session in &all {
            revoked.add(*session);
        }
        let text = serde_json::to_string(&revoked).unwrap();
        assert!(text.len() < 32 * 1024, "{}", text.len());
        let revoked: RevokedSessions = serde_json::from_str(&text).unwrap();
        assert_eq!(revoked.sessions.len(), MAX_REVOKED);
        assert!(all.iter().all(|session| revoked.contains(session)));
        assert!(!revoked.contains(&session(1999)));
    }
}

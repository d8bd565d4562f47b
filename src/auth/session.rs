//! Sessions of web pages. A page exchanges its bearer token for one, because an `EventSource`
//! cannot send a token.
//!
//! A session is a JWT in a cookie. It is signed with the *configured* key, so that the process
//! after a crash accepts it although it has never seen it: an `EventSource` that gets 401 never
//! retries, and the instance key dies with its process. The store only knows which sessions were
//! revoked, and which are active in this process; a session becomes active when it is first used.
//! The owner of the store saves the revoked sessions for the next process.

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::revoked::SessionId;
use super::scope::Scopes;
use super::token::Claims;

/// A valid session.
#[derive(Debug, Clone)]
pub struct Session {
    /// Its id, for the audit trail.
    pub id: Uuid,
    /// The user of the session.
    pub subject: String,
    /// The scopes of the token that it was created from.
    pub scopes: Scopes,
    /// When it expires.
    pub expires_at: Timestamp,
    /// Cancelled when the session is revoked.
    pub revoked: CancellationToken,
}

impl Session {
    pub(super) fn session_id(&self) -> SessionId {
        SessionId {
            expires_at: self.expires_at,
            id: self.id,
        }
    }
}

impl From<Session> for Claims {
    fn from(session: Session) -> Self {
        Self {
            subject: session.subject,
            token_id: Some(session.id.to_string()),
            scopes: session.scopes,
            key_valid_for: None,
            // A session creates no other session.
            key_revision: 0,
        }
    }
}

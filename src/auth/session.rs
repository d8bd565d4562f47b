//! Sessions of web pages. A page exchanges its bearer token for one, because an `EventSource`
//! cannot send a token.
//!
//! A session is three independent random values. A browser sends cookies to every port of a host,
//! so the *cookie* alone opens nothing. The *session value* and the cookie open what the session's
//! scopes allow; the *ticket*, which is part of an address, and the cookie open the log stream only.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use thiserror::Error;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::key::{KeyError, random_bytes};
use super::scope::Scopes;
use super::token::{Claims, TokenMark};

/// A valid session.
#[derive(Debug, Clone)]
pub struct Session {
    /// Its id, for the audit trail and for ending it. It is not secret.
    pub id: Uuid,
    /// The user of the session.
    pub subject: String,
    /// The scopes of the token that it was created from.
    pub scopes: Scopes,
    /// Whether the API accepts it. Otherwise only the log stream does.
    pub has_session_value: bool,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it expires.
    pub expires_at: Timestamp,
    /// The token that it was created from.
    pub(super) token: TokenMark,
    /// Cancelled when the session ends before it expires.
    pub ended: CancellationToken,
}

impl Session {
    /// The id of the token that it was created from.
    #[must_use]
    pub fn token_id(&self) -> Option<&str> {
        self.token.id.as_deref()
    }
}

impl From<Session> for Claims {
    fn from(session: Session) -> Self {
        Self {
            subject: session.subject,
            token_id: session.token.id.clone(),
            session_id: Some(session.id),
            scopes: session.scopes,
            expires_at: session.expires_at,
            session_expires_at: None,
            token: session.token,
            request: None,
            key_valid_for: None,
            // A session creates no other session.
            key_revision: 0,
        }
    }
}

/// The three secret values of a new session. Only their digests are kept.
pub struct SessionValues {
    /// For `Set-Cookie`.
    pub cookie: String,
    /// For the header of API requests. Together with the cookie it opens everything.
    pub session: String,
    /// For the address of the log stream.
    pub ticket: String,
}

impl SessionValues {
    /// Three values of 32 random bytes each.
    pub(super) fn generate() -> Result<Self, KeyError> {
        let value = || random_bytes().map(|bytes| URL_SAFE_NO_PAD.encode(bytes));
        Ok(Self {
            cookie: value()?,
            session: value()?,
            ticket: value()?,
        })
    }
}

/// The value that a request presents beside the cookie.
#[derive(Clone, Copy)]
pub enum SessionCredential<'a> {
    /// The session value.
    Session(&'a str),
    /// The session value, for signing out. It needs no cookie, which another program may have
    /// replaced, and may be one that is refused since the daemon was started again.
    SessionToEnd(&'a str),
    /// The ticket, which only the log stream accepts.
    Ticket(&'a str),
}

/// Why a session is rejected.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum SessionError {
    /// No session has this value. It may have ended, or the daemon was started again.
    #[error("the session has ended")]
    Unknown,
    /// The session has expired.
    #[error("the session has expired")]
    Expired,
    /// No cookie of the request belongs to the session.
    #[error("the session cookie is missing or belongs to another session")]
    WrongCookie,
}

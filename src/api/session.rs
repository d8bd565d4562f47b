//! Browser sessions.

use poem_openapi::Object;
use serde::{Deserialize, Serialize};

/// A browser session. Its secret is in the cookie, which scripts cannot read.
#[derive(Debug, Clone, PartialEq, Eq, Object, Serialize, Deserialize)]
pub struct BrowserSession {
    /// Subject of the token that signed in.
    pub subject: String,
    /// Scopes of the session: those of the token that signed in.
    pub scopes: Vec<String>,
    /// Expiry of the session, as an RFC 3339 timestamp in UTC.
    pub expires_at: String,
}

/// A one-time token that only signs in to the console.
#[derive(Debug, Clone, PartialEq, Eq, Object, Serialize, Deserialize)]
pub struct SignInToken {
    /// The token: a bearer token for `POST /admin/session`, or part of the console's address,
    /// `/console#token=TOKEN`. Valid once.
    pub token: String,
    /// Lifetime of the token in seconds.
    pub expires_in_seconds: u64,
}

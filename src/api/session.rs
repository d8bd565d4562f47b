//! Browser sessions.

use poem_openapi::Object;
use serde::{Deserialize, Serialize};

/// A browser session.
#[derive(Debug, Clone, PartialEq, Eq, Object, Serialize, Deserialize)]
pub struct BrowserSession {
    /// Its id, which is not secret.
    pub id: String,
    /// Subject of the token that signed in.
    pub subject: String,
    /// Scopes of the session: those of the token that signed in.
    pub scopes: Vec<String>,
    /// Expiry of the session, as an RFC 3339 timestamp in UTC.
    pub expires_at: String,
}

/// A new browser session, with two of its three secret values. The third is in the cookie, which
/// scripts cannot read. Each value alone opens nothing.
#[derive(Debug, Clone, PartialEq, Eq, Object, Serialize, Deserialize)]
pub struct CreatedSession {
    /// Its id, which is not secret.
    pub id: String,
    /// Subject of the token that signed in.
    pub subject: String,
    /// Scopes of the session: those of the token that signed in.
    pub scopes: Vec<String>,
    /// Expiry of the session, as an RFC 3339 timestamp in UTC.
    pub expires_at: String,
    /// The value of the header `X-Fullon-Session`. With the cookie, it opens what the scopes allow.
    pub session: String,
    /// The value of `ticket` in the query of `GET /admin/logs/stream`. With the cookie, it opens the
    /// log stream until the session ends.
    pub ticket: String,
}

/// A browser session, as a list of sessions shows it.
#[derive(Debug, Clone, PartialEq, Eq, Object, Serialize, Deserialize)]
pub struct SessionSummary {
    /// Its id, for `DELETE /admin/sessions/{id}`.
    pub id: String,
    /// The id (`jti`) of the token that signed in, for `POST /admin/tokens/revoke`. Absent if the
    /// token had none.
    #[oai(skip_serializing_if_is_none)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_id: Option<String>,
    /// Subject of the token that signed in.
    pub subject: String,
    /// Scopes of the session.
    pub scopes: Vec<String>,
    /// When it was created, as an RFC 3339 timestamp in UTC.
    pub created_at: String,
    /// Expiry of the session, as an RFC 3339 timestamp in UTC.
    pub expires_at: String,
    /// Whether it only opens the log stream, because the daemon was started since.
    pub log_only: bool,
}

/// Whom a token signs in.
#[derive(Debug, Clone, PartialEq, Eq, Object, Serialize, Deserialize)]
pub struct SignInPreview {
    /// Subject of the session.
    pub subject: String,
    /// Scopes of the session.
    pub scopes: Vec<String>,
    /// Whether a page should ask before it signs in: the browser has a session already, which
    /// signing in replaces, or the token is not one of `fullon console`.
    pub needs_confirmation: bool,
    /// Subject of the session whose cookie and `X-Fullon-Session` the request presents.
    #[oai(skip_serializing_if_is_none)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_in_as: Option<String>,
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

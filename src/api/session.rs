//! Sessions.

use poem_openapi::Object;
use serde::{Deserialize, Serialize};

/// Answer of `GET` and `POST /admin/session`. The session itself is in the cookie, where no script can read it.
#[derive(Debug, Clone, PartialEq, Eq, Object, Serialize, Deserialize)]
pub struct Session {
    /// Who signed in: the token's subject.
    pub subject: String,
    /// What the session allows: `admin:read`, `admin:logs`, `admin:control`, as far as the token did.
    pub scopes: Vec<String>,
    /// When it ends by itself.
    pub expires_at: String,
}

/// Answer of `POST /admin/session/token`.
#[derive(Debug, Clone, PartialEq, Eq, Object, Serialize, Deserialize)]
pub struct SignInToken {
    /// Signs in once: as a bearer token of `POST /admin/session`, or in the console's address as `/console#token=TOKEN`.
    pub token: String,
    /// How long it counts, in seconds.
    pub expires_in_seconds: u64,
}

//! Sessions as the state file holds them.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

use crate::auth::digest::ValueDigest;
use crate::auth::token::TokenMark;

/// The sessions of a process, for the next one: digests, in the order of their last use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct StoredSessions(pub(super) Vec<StoredSession>);

/// Sessions that another version of the program has stored in another form end: the state file must
/// stay readable.
impl<'de> Deserialize<'de> for StoredSessions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let stored = Vec::<serde_json::Value>::deserialize(deserializer)?;
        let known = stored.into_iter().map(serde_json::from_value);
        Ok(Self(known.filter_map(Result::ok).collect()))
    }
}

/// One session as the state file holds it. The names of the fields are part of its format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredSession {
    pub id: Uuid,
    pub subject: String,
    pub scope: String,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    pub token: TokenMark,
    /// Identifies the configured key. The session ends with it.
    pub key: ValueDigest,
    pub cookie: ValueDigest,
    /// `None` once a process with another listening socket has started.
    pub session: Option<ValueDigest>,
    /// The session value from before. It can only end the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former_session: Option<ValueDigest>,
    pub ticket: ValueDigest,
}

impl StoredSession {
    /// Whether this is the session value, or was it.
    pub fn had_session_value(&self, digest: ValueDigest) -> bool {
        [self.session, self.former_session].contains(&Some(digest))
    }
}

impl StoredSessions {
    /// Whether there is a session with this id.
    #[must_use]
    pub fn contains(&self, id: Uuid) -> bool {
        self.0.iter().any(|session| session.id == id)
    }

    /// Forgets the session values, so that only the log stream is left. For a process with another
    /// listening socket: another program may have listened on the port, and browsers take it for
    /// this one. An open page has sent it all values.
    #[must_use]
    pub fn without_session_values(mut self) -> Self {
        for session in &mut self.0 {
            session.former_session = session.session.take().or(session.former_session);
        }
        self
    }
}

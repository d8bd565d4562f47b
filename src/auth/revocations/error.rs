//! Why tokens cannot be revoked.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::list::{MAX_ID_LEN, MAX_IDS, MAX_REVOKED, NoRoom};
use crate::auth::key::KeyError;

/// A token cannot be revoked.
#[derive(Debug, Error)]
pub enum RevokeError {
    /// The request names none, or more than one.
    #[error("exactly one of `token`, `jti` and `all` (which is true) is needed")]
    NotOne,
    /// The text is not a token.
    #[error("the token is malformed, so it was not revoked: check that it is complete")]
    Malformed,
    /// No key that is valid here has signed the token.
    #[error(
        "nothing was revoked: no valid key of this daemon has signed the token, which is refused anyway: if others have the undamaged token, give it or its id (`jti`); if another daemon accepts it, revoke it there"
    )]
    NotSigned,
    /// The text is not an id.
    #[error(
        "an id has 1 to {MAX_ID_LEN} visible ASCII characters; a token with another id can be revoked as a whole"
    )]
    InvalidId,
    /// The id is a token, or a part of one.
    #[error(
        "the id is a token or a part of one, so nothing was revoked: give the whole token as `token`"
    )]
    TokenAsId,
    /// The id is that of a session.
    #[error(
        "the id is that of a session, so nothing was revoked: end it with `fullon sessions --end {0}`"
    )]
    SessionAsId(String),
    /// The limit is reached.
    #[error(
        "{MAX_REVOKED} tokens are revoked already: revoke all tokens instead (`fullon token --revoke-all`)"
    )]
    Full,
    /// The limit on ids is reached.
    #[error(
        "nothing was revoked: {MAX_IDS} ids are revoked already: give the token itself, or revoke all tokens (`fullon token --revoke-all`)"
    )]
    FullOfIds,
    /// Reading the file failed.
    #[error(
        "nothing was revoked: the file of revoked tokens {path} cannot be read: {source}; repair it, or revoke all tokens (`fullon token --revoke-all`), which replaces it"
    )]
    Read { path: PathBuf, source: io::Error },
    /// Another process keeps the lock.
    #[error(
        "nothing was revoked: another process has locked {0}: try again, or end that process (`fuser {0}` names it)"
    )]
    Locked(String),
    /// Writing the file failed.
    #[error(
        "nothing was revoked: the file of revoked tokens {path} cannot be written: {source}; try again when its directory can be written"
    )]
    Write { path: PathBuf, source: io::Error },
    /// The file was replaced, but its directory may not be on the disk.
    #[error(
        "it is revoked, but a power cut may undo that, because the directory of {path} could not be written to the disk: {source}; check the disk and repeat it"
    )]
    NotSynced { path: PathBuf, source: io::Error },
    /// The new key could not be prepared.
    #[error("nothing was revoked: {0}")]
    NewKey(#[source] KeyError),
    /// The key file could not be replaced after the tokens were revoked.
    #[error(
        "all tokens are revoked, and the signing key is no longer accepted, but there is no new one: {0}; repeat it, or start the daemon again"
    )]
    SameKey(#[source] KeyError),
    /// There is no directory for the file.
    #[error("nothing was revoked: there is no directory for the file of revoked tokens: set HOME")]
    NoFile,
}

impl From<NoRoom> for RevokeError {
    fn from(error: NoRoom) -> Self {
        match error {
            NoRoom::ForTokens => Self::Full,
            NoRoom::ForIds => Self::FullOfIds,
        }
    }
}

impl RevokeError {
    /// Whether the tokens are revoked all the same.
    #[must_use]
    pub fn has_revoked(&self) -> bool {
        matches!(self, Self::SameKey(_) | Self::NotSynced { .. })
    }
}

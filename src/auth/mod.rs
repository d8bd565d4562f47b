//! Tokens, sessions and scopes.
//!
//! A token is a JWT (RFC 7519) signed with HS256. Two keys are accepted:
//!
//! - the *configured key*: `JWT_SECRET_KEY` or the key file. After a change the previous one stays
//!   valid for a while.
//! - the *instance key*, which the daemon generates at its start and keeps in its 0600 state file.
//!   A user who can read that file can signal the process anyway, so the command line signs with
//!   it, and keeps working after `JWT_SECRET_KEY` was edited. Such a token names the key by `kid`.
//!
//! A web page exchanges its token for a session ([`SessionStore`]): three random values, of which
//! one alone opens nothing. A one-time token ([`SignInTokens`]) only creates a session, within a
//! minute. It is not a JWT: only the process that issued it knows it.

mod digest;
mod failed_attempts;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz_targets;
mod hs256;
mod key;
mod keyring;
mod proof;
mod revocations;
mod scope;
mod session;
mod session_store;
mod sign_in;
mod token;

pub use digest::ValueDigest;
pub use failed_attempts::FailedAttempts;
pub use key::{KeyError, generate_key, key_id, read_key_file};
pub use keyring::{ConfiguredKeys, Keyring, PreviousKey, RecordedKey};
pub use proof::{InvalidProof, ProofKey, ProofSide, generate_nonce, is_nonce};
pub use revocations::{
    LOCK_TIMEOUT, Revocation, Revocations, RevocationsProblem, RevokeError, RevokedAll,
    RevokedKeys, RevokedToken, check_revocations,
};
pub use scope::{Scope, Scopes};
pub use session::{Session, SessionCredential, SessionError, SessionValues};
pub use session_store::{
    CreateSessionError, MAX_SESSION_LIFETIME, MAX_SESSIONS, NewSession, SessionStore,
    StoredSessions,
};
pub use sign_in::{SIGN_IN_LIFETIME, SignInTokens, sign_in_id};
pub use token::{
    Claims, SignError, TokenError, TokenSigner, contains_token, token_id, without_tokens,
};

#[cfg(test)]
mod tests;

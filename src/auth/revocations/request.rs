//! Which tokens to revoke.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::error::RevokeError;
use super::list::{Entry, MAX_ID_LEN};
use crate::auth::digest::ValueDigest;
use crate::auth::key::key_id;
use crate::auth::token::{UnverifiedToken, contains_token, decoding_key, is_signed_with};
use crate::config::Secret;

/// How long a revocation by id is kept: as long as a token can be valid.
const MAX_LIFETIME: SignedDuration = SignedDuration::from_hours(366 * 24);
/// The longest wait for the second from which new tokens are valid. It is further away if the clock
/// was set back.
const MAX_WAIT: Duration = Duration::from_secs(2);

/// The tokens to revoke.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revocation {
    One(RevokedToken),
    All,
}

impl Revocation {
    /// The tokens of a request: a token, an id, or all.
    ///
    /// # Errors
    ///
    /// It names not exactly one of them, or the text is no token or no id.
    pub fn new(
        token: Option<&str>,
        id: Option<&str>,
        all: Option<bool>,
    ) -> Result<Self, RevokeError> {
        match (token, id, all) {
            (Some(token), None, None) => RevokedToken::with_text(token).map(Self::One),
            (None, Some(id), None) => RevokedToken::with_id(id).map(Self::One),
            (None, None, Some(true)) => Ok(Self::All),
            _ => Err(RevokeError::NotOne),
        }
    }

    /// The name in the audit trail.
    #[must_use]
    pub fn audit_name(&self) -> &str {
        match self {
            Self::One(token) => token.audit_name(),
            Self::All => "all",
        }
    }
}

/// A token to revoke: one whose digest is known, or every token with an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokedToken {
    pub(super) entry: Entry,
    name: String,
    /// The token and its `jti`, neither of which is verified. `None` for an id.
    unverified: Option<(Secret, Option<String>)>,
}

impl RevokedToken {
    /// The token itself. Its digest is kept. The caller checks the signature
    /// (`check_signature`).
    ///
    /// # Errors
    ///
    /// The text is no token.
    pub fn with_text(text: &str) -> Result<Self, RevokeError> {
        let token = UnverifiedToken::parse(text).ok_or(RevokeError::Malformed)?;
        let name = format!("digest {:?}", token.digest);
        let entry = Entry {
            jti: None,
            digest: Some(token.digest),
            exp: token.expires_at,
            iat: token.issued_at,
            instance: token.is_of_instance,
            key: None,
        };
        Ok(Self {
            entry,
            name,
            unverified: Some((Secret::new(text.to_owned()), token.id)),
        })
    }

    /// Every token with this `jti`.
    ///
    /// # Errors
    ///
    /// The text is no id.
    pub fn with_id(id: &str) -> Result<Self, RevokeError> {
        check_id(id)?;
        let end = Timestamp::now().saturating_add(MAX_LIFETIME);
        let entry = Entry {
            jti: Some(id.to_owned()),
            digest: None,
            exp: end.unwrap_or(Timestamp::MAX),
            iat: None,
            instance: false,
            key: None,
        };
        let name = format!("jti {id}");
        Ok(Self {
            entry,
            name,
            unverified: None,
        })
    }

    /// Checks who has signed the token: the instance key, or a configured key, whose id `find`
    /// returns. An id needs no check: it is that of tokens of any key.
    ///
    /// # Errors
    ///
    /// Neither. A token that nobody has signed would take the place of another one in the list.
    pub(in crate::auth) fn check_signature(
        mut self,
        is_of_instance: impl FnOnce(&str) -> bool,
        find: impl FnOnce(&str) -> Option<ValueDigest>,
    ) -> Result<Self, RevokeError> {
        let Some((text, id)) = self.unverified.take() else {
            return Ok(self);
        };
        if self.entry.instance {
            if !is_of_instance(text.expose()) {
                return Err(RevokeError::NotSigned);
            }
        } else {
            let key = find(text.expose()).ok_or(RevokeError::NotSigned)?;
            self.entry.key = Some(key);
        }
        if let Some(id) = id.filter(|id| check_id(id).is_ok()) {
            self.name = format!("jti {id}");
        }
        Ok(self)
    }

    /// Checks who has signed the token, as a daemon with these keys would.
    ///
    /// # Errors
    ///
    /// None of the keys.
    pub fn check_signature_of(
        self,
        keys: &[Secret],
        instance_key: Option<&Secret>,
    ) -> Result<Self, RevokeError> {
        let has_signed = |text: &str, key: &Secret| is_signed_with(text, &decoding_key(key));
        self.check_signature(
            |text| instance_key.is_some_and(|key| has_signed(text, key)),
            |text| keys.iter().find(|key| has_signed(text, key)).map(key_id),
        )
    }

    /// The id, if it was given as such.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.entry.jti.as_deref()
    }

    /// The name in the audit trail: the `jti` of the token if its signature was checked, or else
    /// the digest of its header and claims.
    #[must_use]
    pub fn audit_name(&self) -> &str {
        &self.name
    }
}

fn check_id(id: &str) -> Result<(), RevokeError> {
    if contains_token(id) {
        return Err(RevokeError::TokenAsId);
    }
    let is_valid =
        (1..=MAX_ID_LEN).contains(&id.len()) && id.bytes().all(|it| it.is_ascii_graphic());
    is_valid.then_some(()).ok_or(RevokeError::InvalidId)
}

/// All tokens are revoked.
#[derive(Debug)]
pub struct RevokedAll {
    /// From when on new tokens are valid.
    pub valid_from: Timestamp,
    /// The new signing key, if the key file was replaced.
    pub new_key: Option<Secret>,
}

impl RevokedAll {
    /// Waits for the second from which new tokens are valid. A token names the second in which it
    /// was issued, so one that is issued earlier would be revoked.
    pub async fn wait_until_valid(&self) {
        let wait = Duration::try_from(self.valid_from.duration_since(Timestamp::now()));
        tokio::time::sleep(wait.unwrap_or_default().min(MAX_WAIT)).await;
    }
}

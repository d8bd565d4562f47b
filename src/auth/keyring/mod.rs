//! The keys that sign tokens, and which of them are valid.

mod configured;
mod refresh;

use std::sync::Arc;

use jiff::Timestamp;
use jsonwebtoken::{DecodingKey, Validation};

use super::proof::InvalidProof;
use super::revocations::{Revocations, RevocationsProblem, RevokeError, RevokedToken};
use super::scope::Scopes;
use super::token::{
    Claims, INSTANCE_KEY_ID, TokenError, decode_claims, decode_header, decoding_key,
    is_signed_with, mark, timestamp, validation,
};
use crate::config::Secret;
use crate::identity::identity;

pub use configured::{ConfiguredKeys, PreviousKey, RecordedKey};

/// Verifies bearer tokens with the configured keys and the instance key.
pub struct Keyring {
    configured: Arc<ConfiguredKeys>,
    instance: DecodingKey,
    validation: Validation,
}

impl Keyring {
    /// The revoked tokens.
    #[must_use]
    pub fn revocations(&self) -> &Revocations {
        &self.configured.revocations
    }

    /// Checks that a key that is valid here has signed a token to revoke.
    ///
    /// # Errors
    ///
    /// None has.
    pub fn check_revoked(&self, token: RevokedToken) -> Result<RevokedToken, RevokeError> {
        token.check_signature(
            |text| is_signed_with(text, &self.instance),
            |text| self.configured.signer(text),
        )
    }

    /// A problem of the revoked tokens that the operator should know, as of the last verification.
    #[must_use]
    pub fn revocations_problem(&self) -> Option<RevocationsProblem> {
        let key = self.configured.keys().current.id;
        self.configured.revocations.last_problem(key)
    }

    /// Whether the token of these claims, which was verified before, is refused now: it was revoked
    /// since, or it is unknown whether it was. That it has expired does not matter.
    #[must_use]
    pub fn refuses(&self, claims: &Claims) -> bool {
        self.configured.refresh().check(&claims.token).is_err()
    }

    /// Whether these claims, which were verified before, still create a session. A new signing key
    /// keeps them from it.
    #[must_use]
    pub fn may_sign_in(&self, claims: &Claims) -> bool {
        let revoked = self.configured.refresh();
        revoked.check(&claims.token).is_ok()
            && self.configured.keys().revision == claims.key_revision
    }

    #[must_use]
    pub fn new(configured: Arc<ConfiguredKeys>, instance: &Secret) -> Self {
        Self {
            configured,
            instance: decoding_key(instance),
            validation: validation(&identity().token_audience()),
        }
    }

    /// Proves to a client that has a configured key that this side has it, too.
    ///
    /// # Errors
    ///
    /// The client's own proof is not valid.
    pub fn answer_proof(
        &self,
        nonce: &str,
        request: &str,
        mac: &str,
    ) -> Result<String, InvalidProof> {
        self.configured.answer_proof(nonce, request, mac)
    }

    /// Verifies signature, algorithm and claims, but not the request that the token is for.
    ///
    /// # Errors
    ///
    /// The first failed check.
    pub fn verify(&self, token: &str) -> Result<Claims, TokenError> {
        let header = decode_header(token)?;
        let revoked = self.configured.refresh();
        let key_revision = self.configured.keys().revision;
        let is_of_instance = header.kid.as_deref() == Some(INSTANCE_KEY_ID);
        let (claims, key, key_valid_for) = if is_of_instance {
            let claims = decode_claims(token, &self.instance, &self.validation)?;
            (claims, None, None)
        } else {
            let (claims, key, valid_for) = self.configured.verify(token, &self.validation)?;
            (claims, Some(key), valid_for)
        };
        let mark = mark(token, &claims, key);
        revoked.check(&mark)?;
        let expires_at = timestamp(&claims.exp).ok_or(TokenError::Malformed)?;
        // The clocks do not differ, and the command has given the request up.
        if is_of_instance && expires_at <= Timestamp::now() {
            return Err(TokenError::Expired);
        }
        Ok(Claims {
            token: mark,
            expires_at,
            session_expires_at: match &claims.session_exp {
                Some(seconds) => Some(timestamp(seconds).ok_or(TokenError::Malformed)?),
                None => None,
            },
            subject: claims.sub,
            token_id: claims.jti,
            session_id: None,
            scopes: Scopes::from_claim(&claims.scope),
            request: claims.req,
            key_valid_for,
            key_revision,
        })
    }
}

//! Tokens and scopes. Knows no HTTP.
//!
//! A token is a JWT (RFC 7519) signed with HS256 and nothing else. Two keys are accepted: the configured one
//! (`JWT_SECRET_KEY` or the key file; after a change also the one before, for a while), and the *instance key*, which the daemon makes at its start and leaves in
//! its 0600 state file. Who can read that file can signal the process anyway, so the command line signs with
//! it and keeps working after `JWT_SECRET_KEY` was edited. A token names the instance key by `kid`.
//!
//! A web page trades its token for a session ([`SessionStore`]): the same kind of value for another audience, so that
//! neither is taken for the other. A token that does nothing but that, once and within a minute ([`SignInTokens`]), is no JWT: only
//! the process that made it knows it.

mod hs256;
mod key;
mod keyring;
mod scope;
mod session;
mod sign_in;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

pub use key::{KeyError, generate_key, read_key_file, read_or_create_key_file};
pub use keyring::{ConfiguredKeys, Keyring, PreviousKey};
pub use scope::{Scope, Scopes};
pub use session::{
    CreateSessionError, MAX_SESSIONS, RevokedSessions, SESSION_AUDIENCE, SESSION_LIFETIME, Session,
    SessionStore,
};
pub use sign_in::{SIGN_IN_LIFETIME, SignInTokens};

use crate::config::Secret;

/// Every token has to name this audience.
pub const TOKEN_AUDIENCE: &str = "fullon-admin";
/// `kid` of tokens that are signed with the instance key.
const INSTANCE_KEY_ID: &str = "instance";
/// Seconds by which the clocks of two machines may differ.
const LEEWAY_SECONDS: u64 = 5;

/// What a valid token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// Who asks.
    pub subject: String,
    /// The token's own name, for the audit trail.
    pub token_id: Option<String>,
    /// What the token allows.
    pub scopes: Scopes,
    /// How long the key still counts that it was signed with, if that is not the current one.
    pub key_valid_for: Option<Duration>,
    /// How often the configured key had changed when this was proven.
    key_revision: u64,
}

/// Why a token was refused. Says nothing about its contents beyond the check that failed.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum TokenError {
    /// Not three base64url parts, not JSON, or a claim of the wrong type.
    #[error("the token is malformed")]
    Malformed,
    /// `alg` is not HS256.
    #[error("the token is not signed with HS256")]
    UnsupportedAlgorithm,
    /// Signed with another key.
    #[error("the token is signed with another key")]
    BadSignature,
    /// `exp` is past.
    #[error("the token has expired")]
    Expired,
    /// `nbf` is to come.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// `aud` is not [`TOKEN_AUDIENCE`], or for a session not [`SESSION_AUDIENCE`].
    #[error("the token is for another audience")]
    WrongAudience,
    /// `exp`, `sub`, `aud` or `scope` is missing.
    #[error("the token lacks a required claim (exp, sub, aud, scope)")]
    MissingClaim,
    /// The session was signed out.
    #[error("the session was ended")]
    SessionRevoked,
}

/// A token could not be signed.
#[derive(Debug, Error)]
#[error("the token could not be signed: {0}")]
pub struct SignError(#[from] jsonwebtoken::errors::Error);

#[derive(Serialize)]
struct ClaimsToSign<'a> {
    sub: &'a str,
    aud: &'a str,
    scope: String,
    iat: i64,
    exp: i64,
    jti: String,
}

#[derive(Deserialize)]
struct DecodedClaims {
    sub: String,
    scope: String,
    /// May be a fraction (RFC 7519, section 2).
    exp: serde_json::Number,
    #[serde(default, deserialize_with = "reject_null")]
    jti: Option<String>,
    #[serde(default, deserialize_with = "reject_null", rename = "iat")]
    _iat: Option<serde_json::Number>,
    #[serde(default, deserialize_with = "reject_null", rename = "iss")]
    _iss: Option<String>,
    /// Read, so that all of it has to be JSON.
    #[serde(flatten)]
    _rest: serde_json::Map<String, serde_json::Value>,
}

/// What of a header matters. `jsonwebtoken` takes an object for `alg`, and null for an absent `crit`.
#[derive(Deserialize)]
struct TokenHeader {
    alg: String,
    #[serde(default, deserialize_with = "reject_null")]
    kid: Option<String>,
    #[serde(default, deserialize_with = "reject_null")]
    crit: Option<IgnoredAny>,
}

/// Null is not what is left out.
fn reject_null<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Signs tokens with one key.
pub struct TokenSigner {
    key: EncodingKey,
    key_id: Option<&'static str>,
}

impl TokenSigner {
    /// Signs with the configured key.
    #[must_use]
    pub fn with_configured_key(key: &Secret) -> Self {
        hs256::install();
        Self {
            key: EncodingKey::from_secret(key.expose().as_bytes()),
            key_id: None,
        }
    }

    /// Signs with the instance key out of the daemon's state file.
    #[must_use]
    pub fn with_instance_key(key: &Secret) -> Self {
        Self {
            key_id: Some(INSTANCE_KEY_ID),
            ..Self::with_configured_key(key)
        }
    }

    /// A token for `subject` that is valid from now for `ttl`.
    ///
    /// # Errors
    ///
    /// The signing library refused; with HS256 that does not happen in practice.
    pub fn sign(&self, subject: &str, scopes: Scopes, ttl: Duration) -> Result<String, SignError> {
        let now = jiff::Timestamp::now().as_second();
        let ttl = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
        self.sign_claims(&ClaimsToSign {
            sub: subject,
            aud: TOKEN_AUDIENCE,
            scope: scopes.to_string(),
            iat: now,
            exp: now.saturating_add(ttl),
            jti: uuid::Uuid::new_v4().to_string(),
        })
    }

    fn sign_claims(&self, claims: &ClaimsToSign<'_>) -> Result<String, SignError> {
        let header = Header {
            kid: self.key_id.map(str::to_owned),
            ..Header::new(Algorithm::HS256)
        };
        Ok(jsonwebtoken::encode(&header, claims, &self.key)?)
    }
}

fn decoding_key(secret: &Secret) -> DecodingKey {
    hs256::install();
    DecodingKey::from_secret(secret.expose().as_bytes())
}

fn validation(audience: &str) -> Validation {
    let mut validation = Validation::new(Algorithm::HS256);
    validation.set_required_spec_claims(&["exp", "sub", "aud"]);
    validation.set_audience(&[audience]);
    validation.validate_nbf = true;
    validation.leeway = LEEWAY_SECONDS;
    validation
}

fn decode_header(token: &str) -> Result<TokenHeader, TokenError> {
    let (header, _) = token.split_once('.').ok_or(TokenError::Malformed)?;
    let header = URL_SAFE_NO_PAD
        .decode(header)
        .map_err(|_| TokenError::Malformed)?;
    let header: TokenHeader = serde_json::from_slice(&header).map_err(|_| TokenError::Malformed)?;
    if header.alg != "HS256" {
        return Err(TokenError::UnsupportedAlgorithm);
    }
    // Extensions that must be understood, and none are (RFC 7515, section 4.1.11).
    if header.crit.is_some() {
        return Err(TokenError::Malformed);
    }
    Ok(header)
}

fn decode_claims(
    token: &str,
    key: &DecodingKey,
    validation: &Validation,
) -> Result<DecodedClaims, TokenError> {
    decode_header(token)?;
    let decoded = jsonwebtoken::decode::<DecodedClaims>(token, key, validation)
        .map_err(|error| token_error(&error))?;
    if decoded.claims.sub.is_empty() {
        return Err(TokenError::MissingClaim);
    }
    Ok(decoded.claims)
}

fn token_error(error: &jsonwebtoken::errors::Error) -> TokenError {
    use jsonwebtoken::errors::ErrorKind;
    match error.kind() {
        ErrorKind::InvalidSignature => TokenError::BadSignature,
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => {
            TokenError::UnsupportedAlgorithm
        }
        ErrorKind::ExpiredSignature => TokenError::Expired,
        ErrorKind::ImmatureSignature => TokenError::NotYetValid,
        ErrorKind::InvalidAudience => TokenError::WrongAudience,
        ErrorKind::MissingRequiredClaim(_) => TokenError::MissingClaim,
        ErrorKind::Json(error) if error.to_string().starts_with("missing field") => {
            TokenError::MissingClaim
        }
        _ => TokenError::Malformed,
    }
}

#[cfg(test)]
mod tests;

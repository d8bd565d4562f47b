//! Signs tokens, and decodes them. `keyring` decides which keys are valid.

use std::borrow::Cow;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use percent_encoding::percent_decode_str;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;
use uuid::Uuid;

use super::digest::ValueDigest;
use super::hs256;
use super::proof::ProofKey;
use super::scope::Scopes;
use crate::config::Secret;
use crate::identity::identity;

/// `kid` of tokens that are signed with the instance key: the key in the state file, which ends with
/// the daemon.
pub(super) const INSTANCE_KEY_ID: &str = "instance";
/// Tolerated difference between the clocks of two machines, in seconds.
const LEEWAY_SECONDS: u64 = 5;
/// The length of an HS256 signature in base64url.
const SIGNATURE_LEN: usize = 43;
/// The claim `req` of the token of `fullon console`.
const CREATE_SIGN_IN_TOKEN: &str = "POST /admin/session/token";
/// How far ahead `exp` may be.
const MAX_LIFETIME: Duration = Duration::from_hours(366 * 24);

/// The verified claims of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// The user of the token.
    pub subject: String,
    /// Id of the token, for the audit trail. For a session, the token that it was created from.
    pub token_id: Option<String>,
    /// Id of the session, if the caller has one.
    pub session_id: Option<Uuid>,
    /// The operations that the token allows.
    pub scopes: Scopes,
    /// `exp`: when the token expires.
    pub expires_at: Timestamp,
    /// `session_exp`: when a session that is created from the token expires, if not with it.
    pub session_expires_at: Option<Timestamp>,
    /// Identifies the token, for its revocation.
    pub(super) token: TokenMark,
    /// The only request that the token is valid for, such as `POST /admin/stop`.
    pub request: Option<String>,
    /// How long the signing key stays valid, if it is not the current one.
    pub key_valid_for: Option<Duration>,
    /// Revision of the configured keys at verification.
    pub(super) key_revision: u64,
}

impl Claims {
    /// Whether a command of this machine signed the token for itself, with the instance key.
    #[must_use]
    pub fn is_of_command(&self) -> bool {
        self.token.is_of_instance
    }

    /// Whether `fullon console` signed the token, as only a holder of the signing key can: it is valid
    /// only for creating a one-time token, and says when the session ends.
    #[must_use]
    pub fn is_of_console_command(&self) -> bool {
        let request = self.request.as_deref();
        request == Some(CREATE_SIGN_IN_TOKEN) && self.session_expires_at.is_some()
    }

    /// Whether the token is valid for this request.
    #[must_use]
    pub fn allow_request(&self, method: &str, path: &str) -> bool {
        let allowed = self.request.as_deref();
        allowed.is_none_or(|allowed| allowed.split_once(' ') == Some((method, path)))
    }
}

/// Identifies a token without containing it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TokenMark {
    /// Its `jti`.
    pub id: Option<String>,
    /// The digest of its header and claims.
    pub digest: ValueDigest,
    /// Its `iat`, in seconds.
    pub issued_at: Option<i64>,
    /// Whether it is signed with the instance key.
    pub is_of_instance: bool,
    /// The id of the configured key that has signed it.
    #[serde(default)]
    pub key: Option<ValueDigest>,
}

/// The reason why a token is rejected. It says nothing about the contents of the token except the
/// failed check.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum TokenError {
    /// Not three base64url parts, not JSON, a claim of the wrong type, or an unknown `crit`.
    #[error("the token is malformed")]
    Malformed,
    /// `alg` is not HS256.
    #[error("the token is not signed with HS256")]
    UnsupportedAlgorithm,
    /// Signed with another key.
    #[error("the token is signed with another key")]
    BadSignature,
    /// `exp` is in the past.
    #[error("the token has expired")]
    Expired,
    /// `exp` is too far in the future.
    #[error("the token expires more than 366 days from now")]
    ExpiresTooLate,
    /// It was revoked before it expired.
    #[error("the token was revoked")]
    Revoked,
    /// It is unknown whether it was revoked.
    #[error("the file of revoked tokens cannot be read: run `fullon doctor`")]
    RevocationsUnreadable,
    /// `nbf` is in the future.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// `aud` is not the expected audience.
    #[error("the token is for another audience")]
    WrongAudience,
    /// `exp`, `sub`, `aud` or `scope` is missing, or `sub` is empty.
    #[error("the token lacks a required claim (exp, sub, aud, scope)")]
    MissingClaim,
    /// The claim `req` names another request.
    #[error("the token is for another request")]
    WrongRequest,
    /// The session was signed out.
    #[error("the session was ended")]
    SessionRevoked,
}

/// A token could not be signed.
#[derive(Debug, Error)]
#[error("cannot sign a token: {0}")]
pub struct SignError(#[from] jsonwebtoken::errors::Error);

#[derive(Serialize)]
pub(super) struct ClaimsToSign<'a> {
    pub sub: &'a str,
    pub aud: &'a str,
    pub scope: String,
    pub iat: i64,
    pub exp: serde_json::Number,
    pub jti: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_exp: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub req: Option<&'a str>,
}

pub(super) struct DecodedClaims {
    pub sub: String,
    pub scope: String,
    pub exp: serde_json::Number,
    pub jti: Option<String>,
    pub req: Option<String>,
    pub iat: Option<serde_json::Number>,
    pub session_exp: Option<serde_json::Number>,
}

/// The claims of which each may be missing: serde does not tell an error about a missing one from
/// the others.
#[derive(Deserialize)]
struct ParsedClaims {
    #[serde(default, deserialize_with = "reject_null")]
    sub: Option<String>,
    #[serde(default, deserialize_with = "reject_null")]
    scope: Option<String>,
    /// May be a fraction (RFC 7519, section 2).
    #[serde(default, deserialize_with = "reject_null")]
    exp: Option<serde_json::Number>,
    #[serde(default, deserialize_with = "reject_null")]
    jti: Option<String>,
    #[serde(default, deserialize_with = "reject_null")]
    req: Option<String>,
    #[serde(default, deserialize_with = "reject_null")]
    iat: Option<serde_json::Number>,
    #[serde(default, deserialize_with = "reject_null")]
    session_exp: Option<serde_json::Number>,
    #[serde(default, deserialize_with = "reject_null", rename = "iss")]
    _iss: Option<String>,
    /// Parsed so that everything has to be valid JSON.
    #[serde(flatten)]
    _rest: serde_json::Map<String, serde_json::Value>,
}

impl ParsedClaims {
    /// `None` if a required claim is missing. jsonwebtoken requires `aud`.
    fn require(self) -> Option<DecodedClaims> {
        Some(DecodedClaims {
            sub: self.sub.filter(|sub| !sub.is_empty())?,
            scope: self.scope?,
            exp: self.exp?,
            jti: self.jti,
            req: self.req,
            iat: self.iat,
            session_exp: self.session_exp,
        })
    }
}

/// The header fields that we read. `jsonwebtoken` would accept an object for `alg`, and null as if
/// `crit` were missing.
#[derive(Deserialize)]
pub(super) struct TokenHeader {
    alg: String,
    #[serde(default, deserialize_with = "reject_null")]
    pub kid: Option<String>,
    #[serde(default, deserialize_with = "reject_null")]
    crit: Option<IgnoredAny>,
}

/// Deserializes an optional field that may be missing but not null.
fn reject_null<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Signs tokens with one key.
pub struct TokenSigner {
    key: EncodingKey,
    key_id: Option<&'static str>,
    proof: Option<ProofKey>,
}

impl TokenSigner {
    /// Signs with the configured key.
    #[must_use]
    pub fn with_configured_key(key: &Secret) -> Self {
        hs256::install();
        Self {
            key: EncodingKey::from_secret(key.expose().as_bytes()),
            key_id: None,
            proof: Some(ProofKey::new(key)),
        }
    }

    /// Signs with the instance key of the daemon's state file.
    #[must_use]
    pub fn with_instance_key(key: &Secret) -> Self {
        Self {
            key_id: Some(INSTANCE_KEY_ID),
            proof: None,
            ..Self::with_configured_key(key)
        }
    }

    /// Creates a token for `subject` that is valid from now for `ttl`: exactly, if it is signed with
    /// the instance key.
    ///
    /// # Errors
    ///
    /// The signing library failed, which does not happen with HS256.
    pub fn sign(&self, subject: &str, scopes: Scopes, ttl: Duration) -> Result<String, SignError> {
        self.sign_token(subject, scopes, ttl, None, None)
    }

    /// The same, for a token that is valid for one request only, such as `POST /admin/stop`. A
    /// session that it creates lasts `session_ttl` instead of ending with the token.
    ///
    /// # Errors
    ///
    /// The signing library failed, which does not happen with HS256.
    pub fn sign_for_request(
        &self,
        subject: &str,
        scopes: Scopes,
        ttl: Duration,
        session_ttl: Option<Duration>,
        request: &str,
    ) -> Result<String, SignError> {
        self.sign_token(subject, scopes, ttl, session_ttl, Some(request))
    }

    /// The key with which both sides prove that they have the configured key. The instance key
    /// needs no proof: it is used only on this machine, where the kernel says who listens.
    #[must_use]
    pub fn proof_key(&self) -> Option<&ProofKey> {
        self.proof.as_ref()
    }

    /// Whether the instance key signs. Both sides have the same clock then.
    #[must_use]
    pub fn is_of_instance(&self) -> bool {
        self.key_id == Some(INSTANCE_KEY_ID)
    }

    fn sign_token(
        &self,
        subject: &str,
        scopes: Scopes,
        ttl: Duration,
        session_ttl: Option<Duration>,
        request: Option<&str>,
    ) -> Result<String, SignError> {
        let time = Timestamp::now();
        let now = time.as_second();
        let after = |ttl: Duration| now.saturating_add_unsigned(ttl.as_secs());
        let exact = || {
            let end = time.checked_add(ttl).ok()?;
            serde_json::Number::from_f64(end.as_duration().as_secs_f64())
        };
        let exact = exact().filter(|_| self.is_of_instance());
        self.sign_claims(&ClaimsToSign {
            sub: subject,
            aud: &identity().token_audience(),
            scope: scopes.to_string(),
            iat: now,
            exp: exact.unwrap_or_else(|| after(ttl).into()),
            jti: uuid::Uuid::new_v4().to_string(),
            session_exp: session_ttl.map(after),
            req: request,
        })
    }

    pub(super) fn sign_claims(&self, claims: &ClaimsToSign<'_>) -> Result<String, SignError> {
        let header = Header {
            kid: self.key_id.map(str::to_owned),
            ..Header::new(Algorithm::HS256)
        };
        Ok(jsonwebtoken::encode(&header, claims, &self.key)?)
    }
}

pub(super) fn decoding_key(secret: &Secret) -> DecodingKey {
    hs256::install();
    DecodingKey::from_secret(secret.expose().as_bytes())
}

pub(super) fn validation(audience: &str) -> Validation {
    let mut validation = Validation::new(Algorithm::HS256);
    validation.set_required_spec_claims(&["exp", "sub", "aud"]);
    validation.set_audience(&[audience]);
    validation.validate_nbf = true;
    validation.leeway = LEEWAY_SECONDS;
    validation
}

pub(super) fn decode_header(token: &str) -> Result<TokenHeader, TokenError> {
    let (header, _) = token.split_once('.').ok_or(TokenError::Malformed)?;
    let header = URL_SAFE_NO_PAD
        .decode(header)
        .map_err(|_| TokenError::Malformed)?;
    let header: TokenHeader = serde_json::from_slice(&header).map_err(|_| TokenError::Malformed)?;
    if header.alg != "HS256" {
        return Err(TokenError::UnsupportedAlgorithm);
    }
    // An unknown critical extension must be rejected (RFC 7515, section 4.1.11), and none is known.
    if header.crit.is_some() {
        return Err(TokenError::Malformed);
    }
    Ok(header)
}

/// Checks signature and claims of a token.
pub(super) fn decode_claims(
    token: &str,
    key: &DecodingKey,
    validation: &Validation,
) -> Result<DecodedClaims, TokenError> {
    decode_header(token)?;
    let decoded = jsonwebtoken::decode::<ParsedClaims>(token, key, validation);
    let decoded = decoded.map_err(|error| match token_error(error.kind()) {
        // A missing claim is reported first, whatever else is wrong with the claims.
        TokenError::Expired | TokenError::NotYetValid | TokenError::WrongAudience
            if parse_claims(token).is_some_and(|claims| claims.require().is_none()) =>
        {
            TokenError::MissingClaim
        }
        error => error,
    })?;
    let claims = decoded.claims.require().ok_or(TokenError::MissingClaim)?;
    let limit = MAX_LIFETIME.as_secs() + LEEWAY_SECONDS;
    let limit = Timestamp::now().as_second().saturating_add_unsigned(limit);
    match timestamp(&claims.exp) {
        Some(exp) if exp.as_second() <= limit => Ok(claims),
        _ => Err(TokenError::ExpiresTooLate),
    }
}

fn parse_claims(token: &str) -> Option<ParsedClaims> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&claims).ok()
}

/// A `NumericDate` (RFC 7519, section 2), which may be a fraction. `None` if it is not a year from
/// -9999 to 9999.
pub(super) fn timestamp(seconds: &serde_json::Number) -> Option<Timestamp> {
    let duration = match seconds.as_i64() {
        Some(seconds) => SignedDuration::from_secs(seconds),
        None => SignedDuration::try_from_secs_f64(seconds.as_f64()?).ok()?,
    };
    Timestamp::from_duration(duration).ok()
}

/// The identity of a verified token. `key` is the id of the configured key that has signed it; the
/// instance key has none.
pub(super) fn mark(token: &str, claims: &DecodedClaims, key: Option<ValueDigest>) -> TokenMark {
    let signed = token.rsplit_once('.').map_or(token, |(signed, _)| signed);
    let issued_at = claims.iat.as_ref().and_then(timestamp);
    TokenMark {
        id: claims.jti.clone(),
        digest: ValueDigest::of(signed),
        issued_at: issued_at.map(Timestamp::as_second),
        is_of_instance: key.is_none(),
        key,
    }
}

/// Whether this key has signed the token, whatever its claims are.
pub(super) fn is_signed_with(token: &str, key: &DecodingKey) -> bool {
    token.rsplit_once('.').is_some_and(|(signed, signature)| {
        let verified =
            jsonwebtoken::crypto::verify(signature, signed.as_bytes(), key, Algorithm::HS256);
        verified.unwrap_or(false)
    })
}

/// Whether a text is a JWT, contains one, or is a part of one that begins with its header or its
/// claims, or ends with a dot and its signature. It may be percent-encoded. The signature alone opens
/// nothing, and an id may look like it.
#[must_use]
pub fn contains_token(text: &str) -> bool {
    contains_plain_token(text)
        || text.contains('%') && contains_plain_token(&percent_decode_str(text).decode_utf8_lossy())
}

fn contains_plain_token(text: &str) -> bool {
    if contains_signature(text) {
        return true;
    }
    // `{"` in base64url.
    let starts = text.match_indices("eyJ").map(|(at, _)| at);
    std::iter::once(0).chain(starts).any(|at| {
        let (header, is_whole) = match text[at..].split_once('.') {
            Some((header, _)) => (header, true),
            None => (&text[at..], false),
        };
        let is_json =
            |bytes: Vec<u8>| serde_json::from_slice::<serde_json::Map<_, _>>(&bytes).is_ok();
        is_whole && URL_SAFE_NO_PAD.decode(header).is_ok_and(is_json) || is_start_of_json(header)
    })
}

/// The text with `[token]` in place of each word that [is or contains a token](contains_token): for
/// texts of clients that are logged.
#[must_use]
pub fn without_tokens(text: &str) -> Cow<'_, str> {
    // `{` in base64url, or a signature, or what is encoded.
    if !text.contains("ey") && !text.contains('%') && !contains_signature(text) {
        return text.into();
    }
    let is_of_token = |c: char| c.is_ascii_alphanumeric() || "-_.%".contains(c);
    let mut shown = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (word, after) = rest.split_at(rest.find(|c| !is_of_token(c)).unwrap_or(rest.len()));
        shown.push_str(if contains_token(word) {
            "[token]"
        } else {
            word
        });
        let end = after.find(is_of_token).unwrap_or(after.len());
        shown.push_str(&after[..end]);
        rest = &after[end..];
    }
    shown.into()
}

/// Whether a text contains a dot and a signature after it.
fn contains_signature(text: &str) -> bool {
    let mut after_dots = text.split('.').skip(1);
    after_dots.any(|text| base64url_len(text) == SIGNATURE_LEN)
}

/// How many characters of base64url a text begins with.
fn base64url_len(text: &str) -> usize {
    let is_base64url = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
    text.bytes().take_while(is_base64url).count()
}

/// Whether a text begins with a JSON object in base64url, which may be cut off after a name.
fn is_start_of_json(text: &str) -> bool {
    let length = base64url_len(text);
    let decoded = URL_SAFE_NO_PAD.decode(&text[..length - length % 4]);
    decoded
        .is_ok_and(|bytes| bytes.starts_with(b"{\"") && bytes.windows(2).any(|pair| pair == b"\":"))
}

/// A well-formed token whose signature is not verified.
pub(super) struct UnverifiedToken {
    pub id: Option<String>,
    pub digest: ValueDigest,
    pub expires_at: Timestamp,
    pub issued_at: Option<i64>,
    /// Whether it is for the instance key.
    pub is_of_instance: bool,
}

impl UnverifiedToken {
    pub fn parse(token: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Payload {
            exp: serde_json::Number,
            #[serde(default)]
            jti: Option<String>,
            #[serde(default)]
            iat: Option<serde_json::Number>,
        }
        let header = decode_header(token).ok()?;
        let (signed, _) = token.rsplit_once('.')?;
        let (_, claims) = signed.split_once('.')?;
        let claims = URL_SAFE_NO_PAD.decode(claims).ok()?;
        let Payload { exp, jti, iat } = serde_json::from_slice(&claims).ok()?;
        Some(Self {
            id: jti,
            digest: ValueDigest::of(signed),
            expires_at: timestamp(&exp)?,
            issued_at: iat.as_ref().and_then(timestamp).map(Timestamp::as_second),
            is_of_instance: header.kid.as_deref() == Some(INSTANCE_KEY_ID),
        })
    }
}

/// The id of a token (`jti`), which is not verified.
#[must_use]
pub fn token_id(token: &str) -> Option<String> {
    UnverifiedToken::parse(token)?.id
}

fn token_error(error: &ErrorKind) -> TokenError {
    match error {
        ErrorKind::InvalidSignature => TokenError::BadSignature,
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => {
            TokenError::UnsupportedAlgorithm
        }
        ErrorKind::ExpiredSignature => TokenError::Expired,
        ErrorKind::ImmatureSignature => TokenError::NotYetValid,
        ErrorKind::InvalidAudience => TokenError::WrongAudience,
        ErrorKind::MissingRequiredClaim(_) => TokenError::MissingClaim,
        _ => TokenError::Malformed,
    }
}

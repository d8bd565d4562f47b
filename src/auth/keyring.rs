//! The keys that tokens and sessions may be signed with, and which of them count now.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use jsonwebtoken::{DecodingKey, Validation};

use super::{
    Claims, ClaimsToSign, CreateSessionError, DecodedClaims, INSTANCE_KEY_ID, Scopes,
    TOKEN_AUDIENCE, TokenError, TokenSigner, decode_claims, decode_header, decoding_key,
    validation,
};
use crate::config::Secret;

/// The configured key, and the one before it for as long as that still counts.
pub struct ConfiguredKeys(RwLock<Keys>);

struct Keys {
    current: SigningKey,
    previous: Option<(SigningKey, Instant)>,
    /// How often what counts has become less than it was to be.
    revision: u64,
}

#[derive(Clone)]
struct SigningKey {
    secret: Secret,
    decoding: DecodingKey,
}

/// A key that was configured before, and how long it still counts.
#[derive(Debug, Clone)]
pub struct PreviousKey {
    /// The key.
    pub secret: Secret,
    /// From now on.
    pub valid_for: Duration,
}

impl SigningKey {
    fn new(secret: &Secret) -> Self {
        Self {
            secret: secret.clone(),
            decoding: decoding_key(secret),
        }
    }
}

impl ConfiguredKeys {
    /// One key, and perhaps the one before.
    #[must_use]
    pub fn new(current: &Secret, previous: Option<PreviousKey>) -> Self {
        let previous = previous
            .filter(|previous| previous.secret.expose() != current.expose())
            .and_then(|previous| {
                let until = Instant::now().checked_add(previous.valid_for)?;
                Some((SigningKey::new(&previous.secret), until))
            });
        Self(RwLock::new(Keys {
            current: SigningKey::new(current),
            previous,
            revision: 0,
        }))
    }

    /// What is signed from now on is signed with this key; the one before counts for as long as `grace`. Whether it is
    /// another one than before.
    pub fn rotate(&self, key: &Secret, grace: Duration) -> bool {
        let mut keys = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let until = Instant::now().checked_add(grace);
        if keys.current.secret.expose() == key.expose() {
            // A shorter grace holds for a key that was changed before, too.
            if let Some((key, before)) = keys.previous.take() {
                keys.revision += u64::from(until < Some(before));
                keys.previous = until.map(|until| (key, before.min(until)));
            }
            return false;
        }
        keys.revision += 1;
        let before = std::mem::replace(&mut keys.current, SigningKey::new(key));
        keys.previous = until
            .filter(|_| !grace.is_zero())
            .map(|until| (before, until));
        true
    }

    /// The key, for a successor.
    #[must_use]
    pub fn current(&self) -> Secret {
        self.read().current.secret.clone()
    }

    /// The key before, if it still counts.
    #[must_use]
    pub fn previous(&self) -> Option<PreviousKey> {
        let keys = self.read();
        let (key, until) = keys.previous.as_ref()?;
        let counts_for = until.checked_duration_since(Instant::now())?;
        Some(PreviousKey {
            secret: key.secret.clone(),
            valid_for: counts_for,
        })
    }

    /// Signs for somebody whose claims were verified after so many changes: what was proven by other keys than those of now
    /// is not worth what these sign.
    pub(super) fn sign(
        &self,
        claims: &ClaimsToSign<'_>,
        changes: u64,
    ) -> Result<String, CreateSessionError> {
        let keys = self.read();
        if keys.revision != changes {
            return Err(CreateSessionError::KeyChanged);
        }
        Ok(TokenSigner::with_configured_key(&keys.current.secret).sign_claims(claims)?)
    }

    /// How often the keys have changed.
    pub(super) fn revision(&self) -> u64 {
        self.read().revision
    }

    /// What the token says, if it was signed with a key that counts; and how long that does, if it is the one before.
    pub(super) fn verify(
        &self,
        token: &str,
        validation: &Validation,
    ) -> Result<(DecodedClaims, Option<Duration>), TokenError> {
        let keys = self.read();
        match (
            decode_claims(token, &keys.current.decoding, validation),
            &keys.previous,
        ) {
            (Err(TokenError::BadSignature), Some((key, until))) if Instant::now() < *until => {
                let left = until.saturating_duration_since(Instant::now());
                Ok((decode_claims(token, &key.decoding, validation)?, Some(left)))
            }
            (result, _) => Ok((result?, None)),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Keys> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Verifies tokens against the keys in force.
pub struct Keyring {
    configured: Arc<ConfiguredKeys>,
    instance: DecodingKey,
    validation: Validation,
}

impl Keyring {
    /// A keyring of the configured and the instance key.
    #[must_use]
    pub fn new(configured: Arc<ConfiguredKeys>, instance: &Secret) -> Self {
        Self {
            configured,
            instance: decoding_key(instance),
            validation: validation(TOKEN_AUDIENCE),
        }
    }

    /// Checks signature, algorithm and claims.
    ///
    /// # Errors
    ///
    /// The first check that failed.
    pub fn verify(&self, token: &str) -> Result<Claims, TokenError> {
        let header = decode_header(token)?;
        let key_changes = self.configured.revision();
        let (claims, key_left) = if header.kid.as_deref() == Some(INSTANCE_KEY_ID) {
            (
                decode_claims(token, &self.instance, &self.validation)?,
                None,
            )
        } else {
            self.configured.verify(token, &self.validation)?
        };
        Ok(Claims {
            subject: claims.sub,
            token_id: claims.jti,
            scopes: Scopes::from_claim(&claims.scope),
            key_valid_for: key_left,
            key_revision: key_changes,
        })
    }
}

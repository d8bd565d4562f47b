//! The configured keys.

use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use jsonwebtoken::{DecodingKey, Validation};
use serde::{Deserialize, Serialize};

use crate::auth::digest::ValueDigest;
use crate::auth::key::key_id;
use crate::auth::proof::{InvalidProof, ProofKey, ProofSide};
use crate::auth::revocations::{Revocations, RevokeError, RevokedAll, RevokedKeys, RevokedNow};
use crate::auth::token::{DecodedClaims, TokenError, decode_claims, decoding_key, is_signed_with};
use crate::config::Secret;

/// The configured key, and the previous one while it is still valid; and the tokens that are not
/// valid any more although their key is.
pub struct ConfiguredKeys {
    keys: RwLock<Keys>,
    pub(super) revocations: Revocations,
}

pub(super) struct Keys {
    pub current: SigningKey,
    /// The previous key and when it becomes invalid.
    pub previous: Option<(SigningKey, Instant)>,
    /// Incremented when a new key replaces the current one, or a shorter grace period shortens the
    /// validity of the previous one.
    pub revision: u64,
    /// Holds the current key, unless a setting does.
    pub key_file: Option<PathBuf>,
    /// From when on tokens of the current key are valid, as far as this process has acted on it.
    pub limit: Option<i64>,
    /// How often the list of revoked tokens was read when the key file was compared.
    pub compared_at: u64,
}

#[derive(Clone)]
pub(super) struct SigningKey {
    pub secret: Secret,
    decoding: DecodingKey,
    /// Identifies the key in the state file without containing it.
    pub id: ValueDigest,
    proof: ProofKey,
}

/// The previously configured key.
#[derive(Debug, Clone)]
pub struct PreviousKey {
    pub secret: Secret,
    /// How long it stays valid, from now.
    pub valid_for: Duration,
}

/// The part of the signing key that the state file contains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedKey {
    pub id: ValueDigest,
    /// Whether it is from the key file. Otherwise a setting holds it.
    pub is_generated: bool,
    /// The id of the previous key, if it is still valid.
    #[serde(default)]
    pub previous: Option<ValueDigest>,
}

impl SigningKey {
    pub fn new(secret: &Secret) -> Self {
        Self {
            secret: secret.clone(),
            decoding: decoding_key(secret),
            id: key_id(secret),
            proof: ProofKey::new(secret),
        }
    }

    fn answer_proof(&self, nonce: &str, request: &str, mac: &str) -> Result<String, InvalidProof> {
        self.proof.verify(ProofSide::Client, nonce, request, mac)?;
        Ok(self.proof.prove(ProofSide::Daemon, nonce, request))
    }
}

impl Keys {
    /// The limit of a key that has just become the current one needs no action.
    pub fn note_limit(&mut self, revoked: &RevokedNow) {
        self.limit = revoked.look_up(self.current.id, None).limit;
    }
}

impl ConfiguredKeys {
    /// Creates the keys of a process. `previous` comes from the process before it.
    #[must_use]
    pub fn new(current: &Secret, previous: Option<PreviousKey>) -> Self {
        let previous = previous
            .filter(|previous| previous.secret.expose() != current.expose())
            .and_then(|previous| {
                let until = Instant::now().checked_add(previous.valid_for)?;
                Some((SigningKey::new(&previous.secret), until))
            });
        Self {
            keys: RwLock::new(Keys {
                current: SigningKey::new(current),
                previous,
                revision: 0,
                key_file: None,
                limit: None,
                compared_at: 0,
            }),
            revocations: Revocations::new(None),
        }
    }

    /// The same keys, with these revoked tokens.
    #[must_use]
    pub fn with_revocations(self, revocations: Revocations) -> Self {
        let with_file = Self {
            revocations,
            ..self
        };
        let revoked = with_file.revocations.now();
        with_file.write().note_limit(&revoked);
        with_file
    }

    /// The revoked tokens.
    #[must_use]
    pub fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    /// The file that holds the current key; `None` if a setting does.
    pub fn set_key_file(&self, key_file: Option<PathBuf>) {
        self.write().key_file = key_file;
    }

    /// Revokes every token that was issued until now. Replaces the key in `key_file`, if given. The
    /// previous key becomes invalid, in all processes.
    ///
    /// # Errors
    ///
    /// [`RevokeError::Locked`] at once if another process is changing the list: try again. Unless
    /// [`RevokeError::has_revoked`], nothing has changed.
    pub fn revoke_all(&self, key_file: Option<&Path>) -> Result<RevokedAll, RevokeError> {
        let (current, revoked) = {
            let keys = self.read();
            let mut revoked = RevokedKeys {
                replaced: key_file,
                ..RevokedKeys::default()
            };
            let previous = keys.previous.as_ref().map(|(key, _)| key.id);
            revoked.ended.extend(previous);
            match key_file {
                Some(_) => revoked.ended.push(keys.current.id),
                None => revoked.kept.push(keys.current.id),
            }
            (keys.current.secret.clone(), revoked)
        };
        let result = self.revocations.try_revoke_all(&revoked);
        match &result {
            Ok(all) => self.replace(all.new_key.as_ref().unwrap_or(&current)),
            // The next use of the keys reads a new one from the key file.
            Err(error) if error.has_revoked() => self.replace(&current),
            Err(_) => {}
        }
        result
    }

    /// Signs with `key` from now on; every other key becomes invalid.
    fn replace(&self, key: &Secret) {
        let revoked = self.revocations.now();
        let mut keys = self.write();
        keys.revision += 1;
        keys.current = SigningKey::new(key);
        keys.previous = None;
        keys.note_limit(&revoked);
    }

    /// Signs with `key` from now on, and keeps the previous key valid for `grace`. The key before
    /// that becomes invalid. Returns whether the key is a new one.
    pub fn rotate(&self, key: &Secret, grace: Duration) -> bool {
        let revoked = self.revocations.now();
        let mut keys = self.write();
        let until = Instant::now().checked_add(grace);
        if keys.current.secret.expose() == key.expose() {
            // The key is the same, but the grace period of the previous key may have become shorter.
            if let Some((key, old_until)) = keys.previous.take() {
                keys.revision += u64::from(until < Some(old_until));
                keys.previous = until.map(|until| (key, old_until.min(until)));
            }
            return false;
        }
        keys.revision += 1;
        let previous = std::mem::replace(&mut keys.current, SigningKey::new(key));
        keys.note_limit(&revoked);
        keys.previous = until
            .filter(|_| !grace.is_zero())
            .map(|until| (previous, until));
        true
    }

    /// The current key, for the next process.
    #[must_use]
    pub fn current(&self) -> Secret {
        self.read().current.secret.clone()
    }

    /// The current key, for the state file.
    #[must_use]
    pub fn recorded(&self) -> RecordedKey {
        let keys = self.read();
        RecordedKey {
            id: keys.current.id,
            is_generated: keys.key_file.is_some(),
            previous: keys
                .previous
                .as_ref()
                .filter(|(_, until)| Instant::now() < *until)
                .map(|(key, _)| key.id),
        }
    }

    /// The previous key, if it is still valid.
    #[must_use]
    pub fn previous(&self) -> Option<PreviousKey> {
        let keys = self.read();
        let (key, until) = keys.previous.as_ref()?;
        let valid_for = until.checked_duration_since(Instant::now())?;
        Some(PreviousKey {
            secret: key.secret.clone(),
            valid_for,
        })
    }

    /// The id of the current key. `revision` is that of a token's verification. Returns `None` if the
    /// keys changed since, because the token may be invalid now.
    pub(in crate::auth) fn id_at_revision(&self, revision: u64) -> Option<ValueDigest> {
        let keys = self.read();
        (keys.revision == revision).then_some(keys.current.id)
    }

    /// Whether the key with this id is valid, as of the last [`Self::refresh`].
    pub(in crate::auth) fn has_key(&self, id: ValueDigest) -> bool {
        let keys = self.keys();
        let is_previous =
            |(key, until): &(SigningKey, Instant)| key.id == id && Instant::now() < *until;
        keys.current.id == id || keys.previous.as_ref().is_some_and(is_previous)
    }

    /// Verifies a token with the keys as of the last [`Self::refresh`]. Also returns the id of its
    /// key and, for a token of the previous key, how long that key stays valid.
    pub(in crate::auth) fn verify(
        &self,
        token: &str,
        validation: &Validation,
    ) -> Result<(DecodedClaims, ValueDigest, Option<Duration>), TokenError> {
        let keys = self.keys();
        match (
            decode_claims(token, &keys.current.decoding, validation),
            &keys.previous,
        ) {
            (Err(TokenError::BadSignature), Some((key, until))) if Instant::now() < *until => {
                let left = until.saturating_duration_since(Instant::now());
                let claims = decode_claims(token, &key.decoding, validation)?;
                Ok((claims, key.id, Some(left)))
            }
            (result, _) => Ok((result?, keys.current.id, None)),
        }
    }

    /// The id of the valid key that has signed the token, whatever its claims are.
    pub(super) fn signer(&self, token: &str) -> Option<ValueDigest> {
        let keys = self.read();
        let previous = keys.previous.as_ref();
        let previous = previous.filter(|(_, until)| Instant::now() < *until);
        let mut keys = [Some(&keys.current), previous.map(|(key, _)| key)]
            .into_iter()
            .flatten();
        let found = keys.find(|key| is_signed_with(token, &key.decoding));
        found.map(|key| key.id)
    }

    /// The proof of this side, if the client's is valid.
    pub(super) fn answer_proof(
        &self,
        nonce: &str,
        request: &str,
        mac: &str,
    ) -> Result<String, InvalidProof> {
        let keys = self.read();
        let answer = keys.current.answer_proof(nonce, request, mac);
        match &keys.previous {
            Some((key, until)) if answer.is_err() && Instant::now() < *until => {
                key.answer_proof(nonce, request, mac)
            }
            _ => answer,
        }
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, Keys> {
        self.refresh();
        self.keys()
    }

    pub(super) fn keys(&self) -> RwLockReadGuard<'_, Keys> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Keys> {
        self.keys.write().unwrap_or_else(PoisonError::into_inner)
    }
}

//! The keys that sign tokens, and which of them are valid.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use jsonwebtoken::{DecodingKey, Validation};
use serde::{Deserialize, Serialize};

use super::digest::ValueDigest;
use super::key::{key_id, read_key_file};
use super::proof::{InvalidProof, ProofKey, ProofSide};
use super::revocations::{
    Revocations, RevocationsProblem, RevokeError, RevokedAll, RevokedKeys, RevokedNow, RevokedToken,
};
use super::scope::Scopes;
use super::token::{
    Claims, DecodedClaims, INSTANCE_KEY_ID, TokenError, decode_claims, decode_header, decoding_key,
    is_signed_with, mark, timestamp, validation,
};
use crate::config::Secret;
use crate::identity::identity;

/// The configured key, and the previous one while it is still valid; and the tokens that are not
/// valid any more although their key is.
pub struct ConfiguredKeys {
    keys: RwLock<Keys>,
    revocations: Revocations,
}

struct Keys {
    current: SigningKey,
    /// The previous key and when it becomes invalid.
    previous: Option<(SigningKey, Instant)>,
    /// Incremented when a new key replaces the current one, or a shorter grace period shortens the
    /// validity of the previous one.
    revision: u64,
    /// Holds the current key, unless a setting does.
    key_file: Option<PathBuf>,
    /// From when on tokens of the current key are valid, as far as this process has acted on it.
    limit: Option<i64>,
    /// How often the list of revoked tokens was read when the key file was compared.
    compared_at: u64,
}

#[derive(Clone)]
struct SigningKey {
    secret: Secret,
    decoding: DecodingKey,
    /// Identifies the key in the state file without containing it.
    id: ValueDigest,
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
    fn new(secret: &Secret) -> Self {
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
    fn note_limit(&mut self, revoked: &RevokedNow) {
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

    /// The same keys, with the revoked tokens in this file.
    #[must_use]
    pub fn with_revocations(self, path: PathBuf) -> Self {
        let with_file = Self {
            revocations: Revocations::new(Some(path)),
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
    pub(super) fn id_at_revision(&self, revision: u64) -> Option<ValueDigest> {
        let keys = self.read();
        (keys.revision == revision).then_some(keys.current.id)
    }

    /// Whether the key with this id is valid, as of the last [`Self::refresh`].
    pub(super) fn has_key(&self, id: ValueDigest) -> bool {
        let keys = self.keys();
        let is_previous =
            |(key, until): &(SigningKey, Instant)| key.id == id && Instant::now() < *until;
        keys.current.id == id || keys.previous.as_ref().is_some_and(is_previous)
    }

    /// Verifies a token with the keys as of the last [`Self::refresh`]. Also returns the id of its
    /// key and, for a token of the previous key, how long that key stays valid.
    pub(super) fn verify(
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
    fn signer(&self, token: &str) -> Option<ValueDigest> {
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
    fn answer_proof(&self, nonce: &str, request: &str, mac: &str) -> Result<String, InvalidProof> {
        let keys = self.read();
        let answer = keys.current.answer_proof(nonce, request, mac);
        match &keys.previous {
            Some((key, until)) if answer.is_err() && Instant::now() < *until => {
                key.answer_proof(nonce, request, mac)
            }
            _ => answer,
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Keys> {
        self.refresh();
        self.keys()
    }

    fn keys(&self) -> RwLockReadGuard<'_, Keys> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Keys> {
        self.keys.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the revoked tokens as they are now. Another process may have revoked all tokens. Then
    /// the key file has another key, if this key is from it, and no previous key is valid any more.
    pub(super) fn refresh(&self) -> RevokedNow {
        let revoked = self.revocations.now();
        self.drop_revoked_keys(&revoked);
        revoked
    }

    fn drop_revoked_keys(&self, revoked: &RevokedNow) {
        let look_up = |keys: &Keys| {
            let previous = keys.previous.as_ref().map(|(key, _)| key.id);
            let listed = revoked.look_up(keys.current.id, previous);
            // Of the keys that ended long ago, only the key file tells.
            let is_unknown = listed.is_incomplete && revoked.reads != keys.compared_at;
            let is_limited = listed.limit > keys.limit;
            let may_be_replaced =
                keys.key_file.is_some() && (listed.is_current_ended || is_limited || is_unknown);
            let needs_change = is_limited || listed.is_previous_ended || may_be_replaced;
            (needs_change, may_be_replaced, is_limited, listed)
        };
        if !look_up(&self.keys()).0 {
            return;
        }
        let mut keys = self.write();
        let (_, may_be_replaced, is_limited, listed) = look_up(&keys);
        if is_limited {
            keys.revision += 1;
            keys.limit = listed.limit;
            keys.previous = None;
        }
        if listed.is_previous_ended && keys.previous.take().is_some() {
            keys.revision += 1;
        }
        if may_be_replaced
            && let Some(Ok(secret)) = keys.key_file.as_deref().map(read_key_file)
            && !revoked.is_key_revoked(key_id(&secret))
        {
            keys.compared_at = revoked.reads;
            if secret.expose() != keys.current.secret.expose() {
                keys.revision += 1;
                keys.current = SigningKey::new(&secret);
                keys.previous = None;
                keys.note_limit(revoked);
                tracing::info!(
                    "another process has replaced the signing key and revoked all tokens"
                );
            }
        }
    }
}

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
            Some(self.configured.read().current.id),
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

    /// Whether the token of these claims was revoked after its verification.
    #[must_use]
    pub fn is_revoked(&self, claims: &Claims) -> bool {
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
        Ok(Claims {
            token: mark,
            expires_at: timestamp(&claims.exp).ok_or(TokenError::Malformed)?,
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

//! Creates, verifies and revokes sessions. A store serves one process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jsonwebtoken::Validation;
use thiserror::Error;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::keyring::ConfiguredKeys;
use super::revoked::{RevokedSessions, SessionId};
use super::scope::Scopes;
use super::session::Session;
use super::token::{Claims, ClaimsToSign, SignError, TokenError, validation};
use crate::identity::identity;

/// How long a session is valid: a working day, even if its token expires earlier.
pub const SESSION_LIFETIME: Duration = Duration::from_hours(12);
/// Limit on active sessions. When it is reached, the least recently used one is revoked: one of the
/// same subject if possible, so that nobody can revoke the sessions of others by signing in
/// repeatedly.
pub const MAX_SESSIONS: usize = 64;

/// A session cannot be created.
#[derive(Debug, Error)]
pub enum CreateSessionError {
    /// The configured key changed after the token was verified.
    #[error("the signing key has changed since the token was signed")]
    KeyChanged,
    /// The signing library failed, which does not happen with HS256.
    #[error(transparent)]
    Sign(#[from] SignError),
}

/// Creates, verifies and revokes sessions.
pub struct SessionStore {
    keys: Arc<ConfiguredKeys>,
    validation: Validation,
    table: Mutex<SessionTable>,
}

impl SessionStore {
    /// Creates a store whose sessions are signed with the configured key. `revoked` comes from the
    /// process before.
    #[must_use]
    pub fn new(keys: Arc<ConfiguredKeys>, revoked: RevokedSessions) -> Self {
        Self {
            keys,
            validation: validation(&identity().session_audience()),
            table: Mutex::new(SessionTable {
                active: HashMap::new(),
                revoked,
            }),
        }
    }

    /// Creates a session for verified claims. Also returns its signed value, for the cookie.
    ///
    /// # Errors
    ///
    /// The configured key changed, or the value could not be signed.
    pub fn create(&self, claims: &Claims) -> Result<(Session, String), CreateSessionError> {
        let now = Timestamp::now().as_second();
        // A token of the previous key creates no session that outlives this key.
        let lifetime = claims
            .key_valid_for
            .unwrap_or(SESSION_LIFETIME)
            .min(SESSION_LIFETIME);
        let lifetime = i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX);
        let expires_at = Timestamp::from_second(now.saturating_add(lifetime));
        let session = Session {
            id: Uuid::new_v4(),
            subject: claims.subject.clone(),
            scopes: claims.scopes,
            expires_at: expires_at.unwrap_or(Timestamp::MAX),
            revoked: CancellationToken::new(),
        };
        let audience = identity().session_audience();
        let signed = ClaimsToSign {
            sub: &session.subject,
            aud: &audience,
            scope: session.scopes.to_string(),
            iat: now,
            exp: session.expires_at.as_second(),
            jti: session.id.to_string(),
        };
        let value = self.keys.sign_at_revision(&signed, claims.key_revision);
        let value = value.ok_or(CreateSessionError::KeyChanged)??;
        self.table().touch(&session);
        Ok((session, value))
    }

    /// Verifies the value of a session cookie.
    ///
    /// # Errors
    ///
    /// The first failed check.
    pub fn verify(&self, value: &str) -> Result<Session, TokenError> {
        let (claims, _) = self.keys.verify(value, &self.validation)?;
        let id = claims.jti.ok_or(TokenError::MissingClaim)?;
        let expires_at = claims.exp.as_i64().ok_or(TokenError::Malformed)?;
        let session = Session {
            id: id.parse().map_err(|_| TokenError::Malformed)?,
            subject: claims.sub,
            scopes: Scopes::from_claim(&claims.scope),
            expires_at: Timestamp::from_second(expires_at).map_err(|_| TokenError::Malformed)?,
            revoked: CancellationToken::new(),
        };
        let mut table = self.table();
        if table.revoked.contains(&session.session_id()) {
            return Err(TokenError::SessionRevoked);
        }
        let revoked = table.touch(&session);
        Ok(Session { revoked, ..session })
    }

    /// Revokes a session.
    pub fn revoke(&self, session: &Session) {
        self.table().revoke(session.session_id());
    }

    /// The revoked sessions, for the next process.
    #[must_use]
    pub fn revoked(&self) -> RevokedSessions {
        self.table().revoked.clone()
    }

    fn table(&self) -> MutexGuard<'_, SessionTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct SessionTable {
    active: HashMap<Uuid, ActiveSession>,
    revoked: RevokedSessions,
}

struct ActiveSession {
    id: SessionId,
    subject: String,
    last_used: Instant,
    revoked: CancellationToken,
}

impl SessionTable {
    /// Records that the session is used, and returns the token that is cancelled when it is
    /// revoked.
    fn touch(&mut self, session: &Session) -> CancellationToken {
        if let Some(active) = self.active.get_mut(&session.id) {
            active.last_used = Instant::now();
            return active.revoked.clone();
        }
        while self.active.len() >= MAX_SESSIONS {
            let oldest = self
                .active
                .values()
                .min_by_key(|active| (active.subject != session.subject, active.last_used));
            let Some(id) = oldest.map(|active| active.id) else {
                break;
            };
            self.revoke(id);
        }
        let active = ActiveSession {
            id: session.session_id(),
            subject: session.subject.clone(),
            last_used: Instant::now(),
            revoked: session.revoked.clone(),
        };
        self.active.insert(session.id, active);
        session.revoked.clone()
    }

    fn revoke(&mut self, session: SessionId) {
        self.revoked.add(session);
        if let Some(active) = self.active.remove(&session.id) {
            active.revoked.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Keyring, PreviousKey, Scope, TokenSigner};
    use crate::config::Secret;

    fn secret(byte: char) -> Secret {
        Secret::new(byte.to_string().repeat(32))
    }

    fn keys(byte: char) -> Arc<ConfiguredKeys> {
        Arc::new(ConfiguredKeys::new(&secret(byte), None))
    }

    fn sessions(byte: char) -> SessionStore {
        SessionStore::new(keys(byte), RevokedSessions::default())
    }

    fn claims() -> Claims {
        Claims {
            subject: "me".into(),
            token_id: None,
            key_valid_for: None,
            key_revision: 0,
            scopes: Scopes::default().with(Scope::Logs),
        }
    }

    #[test]
    fn session_keeps_claims_and_is_valid_in_next_process() {
        let (session, value) = sessions('c').create(&claims()).unwrap();
        let next = sessions('c');
        let known = next.verify(&value).unwrap();
        assert_eq!(
            (known.id, known.expires_at, &known.subject, known.scopes),
            (
                session.id,
                session.expires_at,
                &session.subject,
                session.scopes
            )
        );
        assert_eq!(
            (session.subject.as_str(), session.scopes),
            ("me", claims().scopes)
        );
        let other = sessions('x');
        assert_eq!(other.verify(&value).unwrap_err(), TokenError::BadSignature);
    }

    #[test]
    fn sessions_and_tokens_are_not_interchangeable() {
        let sessions = sessions('c');
        let ring = Keyring::new(keys('c'), &secret('i'));
        let (_, value) = sessions.create(&claims()).unwrap();
        assert_eq!(ring.verify(&value), Err(TokenError::WrongAudience));
        let sign = |signer: TokenSigner| {
            signer
                .sign("me", Scopes::ALL, Duration::from_mins(1))
                .unwrap()
        };
        let token = sign(TokenSigner::with_configured_key(&secret('c')));
        assert_eq!(
            sessions.verify(&token).unwrap_err(),
            TokenError::WrongAudience
        );
        let token = sign(TokenSigner::with_instance_key(&secret('i')));
        assert_eq!(
            sessions.verify(&token).unwrap_err(),
            TokenError::BadSignature
        );
    }

    #[test]
    fn session_claims_are_validated() {
        let sessions = sessions('c');
        let now = Timestamp::now().as_second();
        let verify = |aud: &str, exp, jti: &str| {
            let claims = ClaimsToSign {
                sub: "me",
                aud,
                scope: "admin:read".into(),
                iat: now,
                exp,
                jti: jti.into(),
            };
            let value = sessions.keys.sign_at_revision(&claims, 0).unwrap();
            sessions.verify(&value.unwrap()).map(|_| ())
        };
        let id = Uuid::new_v4().to_string();
        let audience = identity().session_audience();
        let token_audience = identity().token_audience();
        assert_eq!(verify(&audience, now + 60, &id), Ok(()));
        assert_eq!(verify(&audience, now - 60, &id), Err(TokenError::Expired));
        assert_eq!(
            verify(&token_audience, now + 60, &id),
            Err(TokenError::WrongAudience)
        );
        assert_eq!(verify(&audience, now + 60, "7"), Err(TokenError::Malformed));
    }

    #[test]
    fn revoking_a_session_keeps_the_others() {
        let sessions = sessions('c');
        let (first, value) = sessions.create(&claims()).unwrap();
        let (_, other) = sessions.create(&claims()).unwrap();
        let revoked = sessions.verify(&value).unwrap().revoked;
        sessions.revoke(&first);
        assert!(revoked.is_cancelled());
        assert_eq!(
            sessions.verify(&value).unwrap_err(),
            TokenError::SessionRevoked
        );
        assert!(!sessions.verify(&other).unwrap().revoked.is_cancelled());
        let next = SessionStore::new(keys('c'), sessions.revoked());
        assert_eq!(next.verify(&value).unwrap_err(), TokenError::SessionRevoked);
    }

    #[test]
    fn full_store_revokes_least_recently_used_session() {
        let sessions = sessions('c');
        let all: Vec<_> = (0..MAX_SESSIONS)
            .map(|_| sessions.create(&claims()).unwrap().1)
            .collect();
        sessions.verify(&all[0]).unwrap();
        // Also one that another process created.
        let (_, another) = super::tests::sessions('c').create(&claims()).unwrap();
        sessions.verify(&another).unwrap();
        assert_eq!(
            sessions.verify(&all[1]).unwrap_err(),
            TokenError::SessionRevoked
        );
        for value in all.iter().skip(2).chain([&all[0], &another]) {
            sessions.verify(value).unwrap();
        }
        assert_eq!(sessions.table().active.len(), MAX_SESSIONS);
    }

    #[test]
    fn previous_key_is_valid_during_grace() {
        let keys = keys('c');
        let sessions = SessionStore::new(Arc::clone(&keys), RevokedSessions::default());
        let (_, value) = sessions.create(&claims()).unwrap();
        assert!(!keys.rotate(&secret('c'), Duration::ZERO));
        assert!(keys.rotate(&secret('d'), Duration::from_mins(1)));
        sessions.verify(&value).unwrap();
        let handed_over = keys.previous().unwrap();
        assert!(handed_over.valid_for > Duration::from_secs(50));
        let next = ConfiguredKeys::new(&secret('d'), Some(handed_over));
        SessionStore::new(Arc::new(next), RevokedSessions::default())
            .verify(&value)
            .unwrap();
        let expired = PreviousKey {
            secret: secret('c'),
            valid_for: Duration::ZERO,
        };
        let next = ConfiguredKeys::new(&secret('d'), Some(expired));
        let next = SessionStore::new(Arc::new(next), RevokedSessions::default());
        assert_eq!(next.verify(&value).unwrap_err(), TokenError::BadSignature);
        assert!(keys.rotate(&secret('e'), Duration::ZERO));
        assert_eq!(
            sessions.verify(&value).unwrap_err(),
            TokenError::BadSignature
        );
    }

    #[test]
    fn claims_from_before_key_rotation_create_no_session() {
        let keys = keys('c');
        let sessions = SessionStore::new(Arc::clone(&keys), RevokedSessions::default());
        let ring = Keyring::new(Arc::clone(&keys), &secret('i'));
        let verified = |signer: TokenSigner| {
            let token = signer.sign("me", Scopes::ALL, Duration::from_mins(1));
            ring.verify(&token.unwrap()).unwrap()
        };
        let is_rejected = |claims: &Claims| {
            let outcome = sessions.create(claims);
            matches!(outcome, Err(CreateSessionError::KeyChanged))
        };
        let configured = || verified(TokenSigner::with_configured_key(&secret('c')));
        let [first, instance] = [
            configured(),
            verified(TokenSigner::with_instance_key(&secret('i'))),
        ];
        assert!(!keys.rotate(&secret('c'), Duration::ZERO));
        assert!(!is_rejected(&first) && !is_rejected(&instance));
        assert!(keys.rotate(&secret('d'), Duration::from_mins(10)));
        assert!(is_rejected(&first) && is_rejected(&instance));
        // The previous key is valid during the grace, until the grace is shortened.
        let old = configured();
        assert!(!keys.rotate(&secret('d'), Duration::from_mins(20)));
        assert!(!is_rejected(&old));
        assert!(!keys.rotate(&secret('d'), Duration::from_secs(1)));
        assert!(is_rejected(&old));
    }
}

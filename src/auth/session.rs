//! Sessions: what a web page gets for a bearer token, because a plain `EventSource` cannot send one.
//!
//! A session is a signed value, and the table here only says which of them have ended: an `EventSource` that is told 401
//! never tries again, so the process that comes after a crash has to accept a value that it has never seen. That is why the
//! *configured* key signs it: the instance key dies with its process. Such a value takes its place in the table when it is
//! first used. Whoever owns the table keeps what has ended for the next process (`State`).

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jsonwebtoken::Validation;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Claims, ClaimsToSign, ConfiguredKeys, Scopes, SignError, TokenError, validation};

/// Audience of sessions: no bearer token is a session, and no session is a bearer token.
pub const SESSION_AUDIENCE: &str = "fullon-session";
/// How long a session lives, however short the rest of the token's life was: a working day, and no longer without
/// another token.
pub const SESSION_LIFETIME: Duration = Duration::from_hours(12);
/// How many sessions there are at once. One more ends the one that was used least recently: one of the same subject if there is
/// one, so that nobody who signs in again and again ends those of others.
pub const MAX_SESSIONS: usize = 64;
/// How many ended sessions are remembered.
const MAX_REVOKED: usize = 256;

/// A session that was begun and has not ended.
#[derive(Debug, Clone)]
pub struct Session {
    /// Its name, for the audit trail.
    pub id: Uuid,
    /// Who asks.
    pub subject: String,
    /// What it allows: as much as the token it was traded for.
    pub scopes: Scopes,
    /// When it ends by itself.
    pub expires_at: Timestamp,
    /// Tells that it was ended before.
    pub revoked: CancellationToken,
}

/// No session begins.
#[derive(Debug, Error)]
pub enum CreateSessionError {
    /// Another key is in force than when the token was verified.
    #[error("the key was changed since the token was made")]
    KeyChanged,
    /// The signing library refused; with HS256 that does not happen in practice.
    #[error(transparent)]
    Sign(#[from] SignError),
}

/// A session by what tells it from others. Those that expire first come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct SessionId {
    expires_at: Timestamp,
    id: Uuid,
}

impl From<Session> for Claims {
    fn from(session: Session) -> Self {
        Self {
            subject: session.subject,
            token_id: Some(session.id.to_string()),
            scopes: session.scopes,
            key_valid_for: None,
            // It begins nothing.
            key_revision: 0,
        }
    }
}

/// Begins, verifies and ends sessions.
pub struct SessionStore {
    keys: Arc<ConfiguredKeys>,
    validation: Validation,
    table: Mutex<SessionTable>,
}

impl SessionStore {
    /// Sessions that are signed with the configured key; those in `ended` do not count.
    #[must_use]
    pub fn new(keys: Arc<ConfiguredKeys>, ended: RevokedSessions) -> Self {
        Self {
            keys,
            validation: validation(SESSION_AUDIENCE),
            table: Mutex::new(SessionTable {
                active: HashMap::new(),
                revoked: ended,
            }),
        }
    }

    /// A new session for whoever showed a token with these claims, and the value that proves it.
    ///
    /// # Errors
    ///
    /// [`CreateSessionError`]
    pub fn create(&self, claims: &Claims) -> Result<(Session, String), CreateSessionError> {
        let now = Timestamp::now().as_second();
        // What a key that was replaced can do ends with it.
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
        let signed = ClaimsToSign {
            sub: &session.subject,
            aud: SESSION_AUDIENCE,
            scope: session.scopes.to_string(),
            iat: now,
            exp: session.expires_at.as_second(),
            jti: session.id.to_string(),
        };
        let value = self.keys.sign(&signed, claims.key_revision)?;
        self.table().touch(&session);
        Ok((session, value))
    }

    /// The session that the value proves.
    ///
    /// # Errors
    ///
    /// The first check that failed.
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
        let ended = table.touch(&session);
        Ok(Session {
            revoked: ended,
            ..session
        })
    }

    /// Ends the session before its time.
    pub fn revoke(&self, session: &Session) {
        self.table().revoke(session.session_id());
    }

    /// Those that were ended before their time.
    #[must_use]
    pub fn revoked(&self) -> RevokedSessions {
        self.table().revoked.clone()
    }

    fn table(&self) -> MutexGuard<'_, SessionTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    fn session_id(&self) -> SessionId {
        SessionId {
            expires_at: self.expires_at,
            id: self.id,
        }
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
    /// Notes that the session is used, and gives what tells of its end.
    fn touch(&mut self, session: &Session) -> CancellationToken {
        if let Some(open) = self.active.get_mut(&session.id) {
            open.last_used = Instant::now();
            return open.revoked.clone();
        }
        while self.active.len() >= MAX_SESSIONS {
            let oldest = self
                .active
                .values()
                .min_by_key(|open| (open.subject != session.subject, open.last_used));
            let Some(name) = oldest.map(|open| open.id) else {
                break;
            };
            self.revoke(name);
        }
        let open = ActiveSession {
            id: session.session_id(),
            subject: session.subject.clone(),
            last_used: Instant::now(),
            revoked: session.revoked.clone(),
        };
        self.active.insert(session.id, open);
        session.revoked.clone()
    }

    fn revoke(&mut self, name: SessionId) {
        self.revoked.add(name);
        if let Some(open) = self.active.remove(&name.id) {
            open.revoked.cancel();
        }
    }
}

/// Sessions that were ended before their time: for this process, and for those that come later. Not forgotten when their time
/// is over, because the clock may be set back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokedSessions {
    sessions: BTreeSet<SessionId>,
    /// All that expire until then have ended. Set when there are more than can be remembered: one too many signs
    /// some page out early, and never lets an ended session back in.
    until: Option<Timestamp>,
}

impl RevokedSessions {
    fn add(&mut self, session: SessionId) {
        self.sessions.insert(session);
        if self.sessions.len() > MAX_REVOKED
            && let Some(first) = self.sessions.pop_first()
        {
            self.until = self.until.max(Some(first.expires_at));
        }
    }

    fn contains(&self, session: &SessionId) -> bool {
        Some(session.expires_at) <= self.until || self.sessions.contains(session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Keyring, PreviousKey, Scope, TOKEN_AUDIENCE, TokenSigner};
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
    fn a_session_is_no_token_and_a_token_no_session() {
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
        let verify = |aud, exp, jti: &str| {
            let claims = ClaimsToSign {
                sub: "me",
                aud,
                scope: "admin:read".into(),
                iat: now,
                exp,
                jti: jti.into(),
            };
            let value = sessions.keys.sign(&claims, 0);
            sessions.verify(&value.unwrap()).map(|_| ())
        };
        let id = Uuid::new_v4().to_string();
        assert_eq!(verify(SESSION_AUDIENCE, now + 60, &id), Ok(()));
        assert_eq!(
            verify(SESSION_AUDIENCE, now - 60, &id),
            Err(TokenError::Expired)
        );
        assert_eq!(
            verify(TOKEN_AUDIENCE, now + 60, &id),
            Err(TokenError::WrongAudience)
        );
        assert_eq!(
            verify(SESSION_AUDIENCE, now + 60, "7"),
            Err(TokenError::Malformed)
        );
    }

    #[test]
    fn revoking_a_session_keeps_the_others() {
        let sessions = sessions('c');
        let (first, value) = sessions.create(&claims()).unwrap();
        let (_, other) = sessions.create(&claims()).unwrap();
        let watched = sessions.verify(&value).unwrap().revoked;
        sessions.revoke(&first);
        assert!(watched.is_cancelled());
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
        // Also one that another process began.
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
        let handed_on = keys.previous().unwrap();
        assert!(handed_on.valid_for > Duration::from_secs(50));
        let next = ConfiguredKeys::new(&secret('d'), Some(handed_on));
        SessionStore::new(Arc::new(next), RevokedSessions::default())
            .verify(&value)
            .unwrap();
        let over = PreviousKey {
            secret: secret('c'),
            valid_for: Duration::ZERO,
        };
        let next = ConfiguredKeys::new(&secret('d'), Some(over));
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
        let proven = |signer: TokenSigner| {
            let token = signer.sign("me", Scopes::ALL, Duration::from_mins(1));
            ring.verify(&token.unwrap()).unwrap()
        };
        let is_refused = |claims: &Claims| {
            let outcome = sessions.create(claims);
            matches!(outcome, Err(CreateSessionError::KeyChanged))
        };
        let configured = || proven(TokenSigner::with_configured_key(&secret('c')));
        let [first, instance] = [
            configured(),
            proven(TokenSigner::with_instance_key(&secret('i'))),
        ];
        assert!(!keys.rotate(&secret('c'), Duration::ZERO));
        assert!(!is_refused(&first) && !is_refused(&instance));
        assert!(keys.rotate(&secret('d'), Duration::from_mins(10)));
        assert!(is_refused(&first) && is_refused(&instance));
        // Within the grace, until that is shortened.
        let old = configured();
        assert!(!keys.rotate(&secret('d'), Duration::from_mins(20)));
        assert!(!is_refused(&old));
        assert!(!keys.rotate(&secret('d'), Duration::from_secs(1)));
        assert!(is_refused(&old));
    }

    #[test]
    fn revoked_list_is_bounded_and_never_forgets() {
        let session = |seconds: i64| SessionId {
            id: Uuid::new_v4(),
            expires_at: Timestamp::from_second(1_000_000 + seconds).unwrap(),
        };
        let mut ended = RevokedSessions::default();
        let all: Vec<_> = (0..2000).map(session).collect();
        for session in &all {
            ended.add(*session);
        }
        let text = serde_json::to_string(&ended).unwrap();
        assert!(text.len() < 32 * 1024, "{}", text.len());
        let ended: RevokedSessions = serde_json::from_str(&text).unwrap();
        assert_eq!(ended.sessions.len(), MAX_REVOKED);
        assert!(all.iter().all(|session| ended.contains(session)));
        assert!(!ended.contains(&session(1999)));
    }
}

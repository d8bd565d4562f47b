//! Sessions: what a web page gets for a bearer token, because a plain `EventSource` cannot send one.
//!
//! A session is a signed value, not an entry of a table: an `EventSource` that is told 401 never tries again, so
//! the process that comes after a restart has to accept it too. That is why the *configured* key signs it: the
//! instance key dies with its process. What the signed value cannot say is that it was signed out. Ended sessions
//! are remembered in memory until they would have expired, and a restart forgets them; signing out also removes
//! the value from the browser, which is what ends it for good.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{DecodingKey, Validation};
use uuid::Uuid;

use super::{
    Claims, LEEWAY_SECONDS, Refused, Scopes, SignError, SignedClaims, Signer, decoding_key,
    read_claims, validation,
};
use crate::config::Secret;

/// Audience of sessions: no bearer token is a session, and no session is a bearer token.
pub const SESSION_AUDIENCE: &str = "fullon-session";
/// How long a session lives, however short the rest of the token's life was: a working day, and no longer without
/// another token.
pub const SESSION_LIFETIME: Duration = Duration::from_hours(12);
/// How many ended sessions are remembered.
const MAX_ENDED: usize = 1024;

/// A session that was begun and has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its name, for the audit trail.
    pub id: Uuid,
    /// Who asks.
    pub subject: String,
    /// What it allows: as much as the token it was traded for.
    pub scopes: Scopes,
    /// When it ends by itself.
    pub expires_at: Timestamp,
}

impl From<Session> for Claims {
    fn from(session: Session) -> Self {
        Self {
            subject: session.subject,
            token_id: Some(session.id.to_string()),
            scopes: session.scopes,
        }
    }
}

/// Begins, verifies and ends sessions.
pub struct Sessions {
    keys: RwLock<Keys>,
    validation: Validation,
    ended: Mutex<Ended>,
}

struct Keys {
    signer: Signer,
    key: DecodingKey,
}

impl Keys {
    fn new(configured: &Secret) -> Self {
        Self {
            signer: Signer::configured(configured),
            key: decoding_key(configured),
        }
    }
}

impl Sessions {
    /// Sessions that are signed with the configured key.
    #[must_use]
    pub fn new(configured: &Secret) -> Self {
        Self {
            keys: RwLock::new(Keys::new(configured)),
            validation: validation(SESSION_AUDIENCE),
            ended: Mutex::default(),
        }
    }

    /// Signs with this key from now on. Sessions that were signed with another one are over.
    pub fn configure(&self, key: &Secret) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Keys::new(key);
    }

    fn keys(&self) -> RwLockReadGuard<'_, Keys> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new session for whoever showed a token with these claims, and the value that proves it.
    ///
    /// # Errors
    ///
    /// The signing library refused; with HS256 that does not happen in practice.
    pub fn begin(&self, claims: &Claims) -> Result<(Session, String), SignError> {
        let now = Timestamp::now().as_second();
        let lifetime = i64::try_from(SESSION_LIFETIME.as_secs()).unwrap_or(i64::MAX);
        let expires_at = Timestamp::from_second(now.saturating_add(lifetime));
        let session = Session {
            id: Uuid::new_v4(),
            subject: claims.subject.clone(),
            scopes: claims.scopes,
            expires_at: expires_at.unwrap_or(Timestamp::MAX),
        };
        let value = self.keys().signer.sign_claims(&SignedClaims {
            sub: &session.subject,
            aud: SESSION_AUDIENCE,
            scope: session.scopes.to_string(),
            iat: now,
            exp: session.expires_at.as_second(),
            jti: session.id.to_string(),
        })?;
        Ok((session, value))
    }

    /// The session that the value proves.
    ///
    /// # Errors
    ///
    /// The first check that failed.
    pub fn verify(&self, value: &str) -> Result<Session, Refused> {
        let claims = read_claims(value, &self.keys().key, &self.validation)?;
        let id = claims.jti.ok_or(Refused::MissingClaim)?;
        let expires_at = claims.exp.as_i64().ok_or(Refused::Malformed)?;
        let session = Session {
            id: id.parse().map_err(|_| Refused::Malformed)?,
            subject: claims.sub,
            scopes: Scopes::of_claim(&claims.scope),
            expires_at: Timestamp::from_second(expires_at).map_err(|_| Refused::Malformed)?,
        };
        if self.ended().contains(&session) {
            return Err(Refused::Ended);
        }
        Ok(session)
    }

    /// Ends the session before its time.
    pub fn end(&self, session: &Session) {
        self.ended().add(session, Timestamp::now());
    }

    fn ended(&self) -> std::sync::MutexGuard<'_, Ended> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sessions that were ended before their time, until their time is over.
#[derive(Default)]
struct Ended {
    /// Those that expire first come first.
    sessions: BTreeSet<(Timestamp, Uuid)>,
    /// All that expire until then have ended. Set when there are more than can be remembered: one too many signs
    /// some page out early, and never lets an ended session back in.
    until: Option<Timestamp>,
}

impl Ended {
    fn add(&mut self, session: &Session, now: Timestamp) {
        let leeway = SignedDuration::from_secs(LEEWAY_SECONDS.cast_signed());
        self.sessions
            .retain(|(expires_at, _)| *expires_at + leeway >= now);
        self.sessions.insert((session.expires_at, session.id));
        if self.sessions.len() > MAX_ENDED
            && let Some((expires_at, _)) = self.sessions.pop_first()
        {
            self.until = self.until.max(Some(expires_at));
        }
    }

    fn contains(&self, session: &Session) -> bool {
        Some(session.expires_at) <= self.until
            || self.sessions.contains(&(session.expires_at, session.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{AUDIENCE, Keyring, Scope};

    fn secret(byte: char) -> Secret {
        Secret::new(byte.to_string().repeat(32))
    }

    fn claims() -> Claims {
        Claims {
            subject: "me".into(),
            token_id: None,
            scopes: Scopes::default().with(Scope::Logs),
        }
    }

    #[test]
    fn a_session_is_what_its_token_was_and_the_next_process_knows_it() {
        let (session, value) = Sessions::new(&secret('c')).begin(&claims()).unwrap();
        let next = Sessions::new(&secret('c'));
        assert_eq!(next.verify(&value), Ok(session.clone()));
        assert_eq!(
            (session.subject.as_str(), session.scopes),
            ("me", claims().scopes)
        );
        let other = Sessions::new(&secret('x'));
        assert_eq!(other.verify(&value), Err(Refused::Signature));
    }

    #[test]
    fn a_session_is_no_token_and_a_token_no_session() {
        let sessions = Sessions::new(&secret('c'));
        let ring = Keyring::new(&secret('c'), &secret('i'));
        let (_, value) = sessions.begin(&claims()).unwrap();
        assert_eq!(ring.verify(&value), Err(Refused::Audience));
        let sign = |signer: Signer| {
            signer
                .sign("me", Scopes::ALL, Duration::from_mins(1))
                .unwrap()
        };
        let token = sign(Signer::configured(&secret('c')));
        assert_eq!(sessions.verify(&token), Err(Refused::Audience));
        let token = sign(Signer::instance(&secret('i')));
        assert_eq!(sessions.verify(&token), Err(Refused::Signature));
    }

    #[test]
    fn what_sessions_need_is_checked() {
        let sessions = Sessions::new(&secret('c'));
        let now = Timestamp::now().as_second();
        let verify = |aud, exp, jti: &str| {
            let value = sessions.keys().signer.sign_claims(&SignedClaims {
                sub: "me",
                aud,
                scope: "admin:read".into(),
                iat: now,
                exp,
                jti: jti.into(),
            });
            sessions.verify(&value.unwrap()).map(|_| ())
        };
        let id = Uuid::new_v4().to_string();
        assert_eq!(verify(SESSION_AUDIENCE, now + 60, &id), Ok(()));
        assert_eq!(
            verify(SESSION_AUDIENCE, now - 60, &id),
            Err(Refused::Expired)
        );
        assert_eq!(verify(AUDIENCE, now + 60, &id), Err(Refused::Audience));
        assert_eq!(
            verify(SESSION_AUDIENCE, now + 60, "7"),
            Err(Refused::Malformed)
        );
    }

    #[test]
    fn ending_one_session_leaves_the_others() {
        let sessions = Sessions::new(&secret('c'));
        let (first, value) = sessions.begin(&claims()).unwrap();
        let (_, other) = sessions.begin(&claims()).unwrap();
        sessions.end(&first);
        assert_eq!(sessions.verify(&value), Err(Refused::Ended));
        assert!(sessions.verify(&other).is_ok());
    }

    #[test]
    fn what_is_remembered_is_bounded_and_nothing_ended_comes_back() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let session = |seconds: i64| Session {
            id: Uuid::new_v4(),
            subject: "me".into(),
            scopes: Scopes::ALL,
            expires_at: now + SignedDuration::from_secs(seconds),
        };
        let mut ended = Ended::default();
        let all: Vec<_> = (0..2000).map(|number| session(100 + number)).collect();
        for session in &all {
            ended.add(session, now);
        }
        assert_eq!(ended.sessions.len(), MAX_ENDED);
        assert!(all.iter().all(|session| ended.contains(session)));
        assert!(!ended.contains(&session(1999)));

        // Their time over, there is nothing to remember.
        let last = session(10_000);
        ended.add(&last, now + SignedDuration::from_secs(5000));
        assert_eq!(ended.sessions.len(), 1);
        assert!(ended.contains(&last));
    }
}

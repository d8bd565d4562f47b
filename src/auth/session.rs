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

use super::{Claims, ConfiguredKeys, Refused, Scopes, SignError, SignedClaims, validation};

/// Audience of sessions: no bearer token is a session, and no session is a bearer token.
pub const SESSION_AUDIENCE: &str = "fullon-session";
/// How long a session lives, however short the rest of the token's life was: a working day, and no longer without
/// another token.
pub const SESSION_LIFETIME: Duration = Duration::from_hours(12);
/// How many sessions there are at once. One more ends the one that was used least recently: one of the same subject if there is
/// one, so that nobody who signs in again and again ends those of others.
pub const MAX_SESSIONS: usize = 64;
/// How many ended sessions are remembered.
const MAX_ENDED: usize = 256;

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
    pub ended: CancellationToken,
}

/// No session begins.
#[derive(Debug, Error)]
pub enum BeginError {
    /// Another key is in force than when the token was verified.
    #[error("the key was changed since the token was made")]
    KeyChanged,
    /// The signing library refused; with HS256 that does not happen in practice.
    #[error(transparent)]
    Sign(#[from] SignError),
}

/// A session by what tells it from others. Those that expire first come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Name {
    expires_at: Timestamp,
    id: Uuid,
}

impl From<Session> for Claims {
    fn from(session: Session) -> Self {
        Self {
            subject: session.subject,
            token_id: Some(session.id.to_string()),
            scopes: session.scopes,
            key_left: None,
            // It begins nothing.
            key_changes: 0,
        }
    }
}

/// Begins, verifies and ends sessions.
pub struct Sessions {
    keys: Arc<ConfiguredKeys>,
    validation: Validation,
    table: Mutex<Table>,
}

impl Sessions {
    /// Sessions that are signed with the configured key; those in `ended` do not count.
    #[must_use]
    pub fn new(keys: Arc<ConfiguredKeys>, ended: EndedSessions) -> Self {
        Self {
            keys,
            validation: validation(SESSION_AUDIENCE),
            table: Mutex::new(Table {
                open: HashMap::new(),
                ended,
            }),
        }
    }

    /// A new session for whoever showed a token with these claims, and the value that proves it.
    ///
    /// # Errors
    ///
    /// [`BeginError`]
    pub fn begin(&self, claims: &Claims) -> Result<(Session, String), BeginError> {
        let now = Timestamp::now().as_second();
        // What a key that was replaced can do ends with it.
        let lifetime = claims
            .key_left
            .unwrap_or(SESSION_LIFETIME)
            .min(SESSION_LIFETIME);
        let lifetime = i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX);
        let expires_at = Timestamp::from_second(now.saturating_add(lifetime));
        let session = Session {
            id: Uuid::new_v4(),
            subject: claims.subject.clone(),
            scopes: claims.scopes,
            expires_at: expires_at.unwrap_or(Timestamp::MAX),
            ended: CancellationToken::new(),
        };
        let signed = SignedClaims {
            sub: &session.subject,
            aud: SESSION_AUDIENCE,
            scope: session.scopes.to_string(),
            iat: now,
            exp: session.expires_at.as_second(),
            jti: session.id.to_string(),
        };
        let value = self.keys.sign(&signed, claims.key_changes)?;
        self.table().used(&session);
        Ok((session, value))
    }

    /// The session that the value proves.
    ///
    /// # Errors
    ///
    /// The first check that failed.
    pub fn verify(&self, value: &str) -> Result<Session, Refused> {
        let (claims, _) = self.keys.verify(value, &self.validation)?;
        let id = claims.jti.ok_or(Refused::MissingClaim)?;
        let expires_at = claims.exp.as_i64().ok_or(Refused::Malformed)?;
        let session = Session {
            id: id.parse().map_err(|_| Refused::Malformed)?,
            subject: claims.sub,
            scopes: Scopes::of_claim(&claims.scope),
            expires_at: Timestamp::from_second(expires_at).map_err(|_| Refused::Malformed)?,
            ended: CancellationToken::new(),
        };
        let mut table = self.table();
        if table.ended.contains(&session.name()) {
            return Err(Refused::Ended);
        }
        let ended = table.used(&session);
        Ok(Session { ended, ..session })
    }

    /// Ends the session before its time.
    pub fn end(&self, session: &Session) {
        self.table().end(session.name());
    }

    /// Those that were ended before their time.
    #[must_use]
    pub fn ended(&self) -> EndedSessions {
        self.table().ended.clone()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    fn name(&self) -> Name {
        Name {
            expires_at: self.expires_at,
            id: self.id,
        }
    }
}

#[derive(Default)]
struct Table {
    open: HashMap<Uuid, Open>,
    ended: EndedSessions,
}

struct Open {
    name: Name,
    subject: String,
    used_at: Instant,
    ended: CancellationToken,
}

impl Table {
    /// Notes that the session is used, and gives what tells of its end.
    fn used(&mut self, session: &Session) -> CancellationToken {
        if let Some(open) = self.open.get_mut(&session.id) {
            open.used_at = Instant::now();
            return open.ended.clone();
        }
        while self.open.len() >= MAX_SESSIONS {
            let oldest = self
                .open
                .values()
                .min_by_key(|open| (open.subject != session.subject, open.used_at));
            let Some(name) = oldest.map(|open| open.name) else {
                break;
            };
            self.end(name);
        }
        let open = Open {
            name: session.name(),
            subject: session.subject.clone(),
            used_at: Instant::now(),
            ended: session.ended.clone(),
        };
        self.open.insert(session.id, open);
        session.ended.clone()
    }

    fn end(&mut self, name: Name) {
        self.ended.add(name);
        if let Some(open) = self.open.remove(&name.id) {
            open.ended.cancel();
        }
    }
}

/// Sessions that were ended before their time: for this process, and for those that come later. Not forgotten when their time
/// is over, because the clock may be set back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedSessions {
    sessions: BTreeSet<Name>,
    /// All that expire until then have ended. Set when there are more than can be remembered: one too many signs
    /// some page out early, and never lets an ended session back in.
    until: Option<Timestamp>,
}

impl EndedSessions {
    fn add(&mut self, session: Name) {
        self.sessions.insert(session);
        if self.sessions.len() > MAX_ENDED
            && let Some(first) = self.sessions.pop_first()
        {
            self.until = self.until.max(Some(first.expires_at));
        }
    }

    fn contains(&self, session: &Name) -> bool {
        Some(session.expires_at) <= self.until || self.sessions.contains(session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{AUDIENCE, Keyring, PreviousKey, Scope, Signer};
    use crate::config::Secret;

    fn secret(byte: char) -> Secret {
        Secret::new(byte.to_string().repeat(32))
    }

    fn keys(byte: char) -> Arc<ConfiguredKeys> {
        Arc::new(ConfiguredKeys::new(&secret(byte), None))
    }

    fn sessions(byte: char) -> Sessions {
        Sessions::new(keys(byte), EndedSessions::default())
    }

    fn claims() -> Claims {
        Claims {
            subject: "me".into(),
            token_id: None,
            key_left: None,
            key_changes: 0,
            scopes: Scopes::default().with(Scope::Logs),
        }
    }

    #[test]
    fn a_session_is_what_its_token_was_and_the_next_process_knows_it() {
        let (session, value) = sessions('c').begin(&claims()).unwrap();
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
        assert_eq!(other.verify(&value).unwrap_err(), Refused::Signature);
    }

    #[test]
    fn a_session_is_no_token_and_a_token_no_session() {
        let sessions = sessions('c');
        let ring = Keyring::new(keys('c'), &secret('i'));
        let (_, value) = sessions.begin(&claims()).unwrap();
        assert_eq!(ring.verify(&value), Err(Refused::Audience));
        let sign = |signer: Signer| {
            signer
                .sign("me", Scopes::ALL, Duration::from_mins(1))
                .unwrap()
        };
        let token = sign(Signer::configured(&secret('c')));
        assert_eq!(sessions.verify(&token).unwrap_err(), Refused::Audience);
        let token = sign(Signer::instance(&secret('i')));
        assert_eq!(sessions.verify(&token).unwrap_err(), Refused::Signature);
    }

    #[test]
    fn what_sessions_need_is_checked() {
        let sessions = sessions('c');
        let now = Timestamp::now().as_second();
        let verify = |aud, exp, jti: &str| {
            let claims = SignedClaims {
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
        let sessions = sessions('c');
        let (first, value) = sessions.begin(&claims()).unwrap();
        let (_, other) = sessions.begin(&claims()).unwrap();
        let watched = sessions.verify(&value).unwrap().ended;
        sessions.end(&first);
        assert!(watched.is_cancelled());
        assert_eq!(sessions.verify(&value).unwrap_err(), Refused::Ended);
        assert!(!sessions.verify(&other).unwrap().ended.is_cancelled());
        let next = Sessions::new(keys('c'), sessions.ended());
        assert_eq!(next.verify(&value).unwrap_err(), Refused::Ended);
    }

    #[test]
    fn one_too_many_ends_the_one_that_was_used_least_recently() {
        let sessions = sessions('c');
        let all: Vec<_> = (0..MAX_SESSIONS)
            .map(|_| sessions.begin(&claims()).unwrap().1)
            .collect();
        sessions.verify(&all[0]).unwrap();
        // Also one that another process began.
        let (_, another) = super::tests::sessions('c').begin(&claims()).unwrap();
        sessions.verify(&another).unwrap();
        assert_eq!(sessions.verify(&all[1]).unwrap_err(), Refused::Ended);
        for value in all.iter().skip(2).chain([&all[0], &another]) {
            sessions.verify(value).unwrap();
        }
        assert_eq!(sessions.table().open.len(), MAX_SESSIONS);
    }

    #[test]
    fn the_key_before_counts_for_a_while() {
        let keys = keys('c');
        let sessions = Sessions::new(Arc::clone(&keys), EndedSessions::default());
        let (_, value) = sessions.begin(&claims()).unwrap();
        assert!(!keys.change(&secret('c'), Duration::ZERO));
        assert!(keys.change(&secret('d'), Duration::from_mins(1)));
        sessions.verify(&value).unwrap();
        let handed_on = keys.previous().unwrap();
        assert!(handed_on.counts_for > Duration::from_secs(50));
        let next = ConfiguredKeys::new(&secret('d'), Some(handed_on));
        Sessions::new(Arc::new(next), EndedSessions::default())
            .verify(&value)
            .unwrap();
        let over = PreviousKey {
            secret: secret('c'),
            counts_for: Duration::ZERO,
        };
        let next = ConfiguredKeys::new(&secret('d'), Some(over));
        let next = Sessions::new(Arc::new(next), EndedSessions::default());
        assert_eq!(next.verify(&value).unwrap_err(), Refused::Signature);
        assert!(keys.change(&secret('e'), Duration::ZERO));
        assert_eq!(sessions.verify(&value).unwrap_err(), Refused::Signature);
    }

    #[test]
    fn what_was_proven_before_a_change_of_the_key_begins_nothing() {
        let keys = keys('c');
        let sessions = Sessions::new(Arc::clone(&keys), EndedSessions::default());
        let ring = Keyring::new(Arc::clone(&keys), &secret('i'));
        let proven = |signer: Signer| {
            let token = signer.sign("me", Scopes::ALL, Duration::from_mins(1));
            ring.verify(&token.unwrap()).unwrap()
        };
        let is_refused = |claims: &Claims| {
            let outcome = sessions.begin(claims);
            matches!(outcome, Err(BeginError::KeyChanged))
        };
        let configured = || proven(Signer::configured(&secret('c')));
        let [first, instance] = [configured(), proven(Signer::instance(&secret('i')))];
        assert!(!keys.change(&secret('c'), Duration::ZERO));
        assert!(!is_refused(&first) && !is_refused(&instance));
        assert!(keys.change(&secret('d'), Duration::from_mins(10)));
        assert!(is_refused(&first) && is_refused(&instance));
        // Within the grace, until that is shortened.
        let old = configured();
        assert!(!keys.change(&secret('d'), Duration::from_mins(20)));
        assert!(!is_refused(&old));
        assert!(!keys.change(&secret('d'), Duration::from_secs(1)));
        assert!(is_refused(&old));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_nothing_ended_comes_back() {
        let session = |seconds: i64| Name {
            id: Uuid::new_v4(),
            expires_at: Timestamp::from_second(1_000_000 + seconds).unwrap(),
        };
        let mut ended = EndedSessions::default();
        let all: Vec<_> = (0..2000).map(session).collect();
        for session in &all {
            ended.add(*session);
        }
        let text = serde_json::to_string(&ended).unwrap();
        assert!(text.len() < 32 * 1024, "{}", text.len());
        let ended: EndedSessions = serde_json::from_str(&text).unwrap();
        assert_eq!(ended.sessions.len(), MAX_ENDED);
        assert!(all.iter().all(|session| ended.contains(session)));
        assert!(!ended.contains(&session(1999)));
    }
}

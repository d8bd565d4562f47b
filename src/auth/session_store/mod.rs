//! Creates, verifies and ends sessions. A store serves one process; the owner of the store saves
//! its sessions for the next process.

mod stored;
mod validity;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use thiserror::Error;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::auth::digest::ValueDigest;
use crate::auth::key::KeyError;
use crate::auth::keyring::ConfiguredKeys;
use crate::auth::scope::Scopes;
use crate::auth::session::{Session, SessionCredential, SessionError, SessionValues};
use crate::auth::token::{Claims, TokenError};

use self::stored::StoredSession;
use self::validity::Validity;

pub use stored::StoredSessions;

/// The longest validity of a session: a working day.
pub const MAX_SESSION_LIFETIME: Duration = Duration::from_hours(12);
/// Limit on sessions. When it is reached, the least recently used one ends: one without more scopes
/// if there is one, and of those one of the same subject. So nobody can end the sessions of others,
/// or those of a token with more scopes, by signing in repeatedly.
pub const MAX_SESSIONS: usize = 64;

/// A session cannot be created.
#[derive(Debug, Error)]
pub enum CreateSessionError {
    /// The configured key changed, or the token was revoked, after the token was verified.
    #[error("the token is no longer valid")]
    TokenInvalid,
    /// The clock is behind the time until which all sessions are revoked.
    #[error("the clock is behind the time until which all sessions are revoked")]
    Revoked,
    /// The token expired after it was verified, or within the tolerated clock difference.
    #[error("the token has expired")]
    Expired,
    /// The system gave no random bytes.
    #[error(transparent)]
    Random(#[from] KeyError),
}

/// Creates, verifies and ends sessions.
pub struct SessionStore {
    keys: Arc<ConfiguredKeys>,
    table: Mutex<Vec<ActiveSession>>,
    /// Reads the sessions of the process that replaced this one.
    successor: OnceLock<ReadSessions>,
}

type ReadSessions = Box<dyn Fn() -> Option<StoredSessions> + Send + Sync>;

impl SessionStore {
    /// Creates a store with the sessions of the process before. They are valid while the configured
    /// key is.
    #[must_use]
    pub fn new(keys: Arc<ConfiguredKeys>, stored: StoredSessions) -> Self {
        // Most recently used last.
        let active = |stored| ActiveSession {
            stored,
            last_used: Instant::now(),
            ended: CancellationToken::new(),
        };
        Self {
            keys,
            table: Mutex::new(stored.0.into_iter().map(active).collect()),
            successor: OnceLock::new(),
        }
    }

    /// Prepares a session for verified claims. [`Self::add`] makes it valid.
    ///
    /// # Errors
    ///
    /// The token is no longer valid, or the session would not be.
    pub fn prepare(&self, claims: &Claims) -> Result<NewSession, CreateSessionError> {
        let now = Timestamp::now();
        // A token of the previous key creates no session that outlives this key.
        let lifetime = claims
            .key_valid_for
            .unwrap_or(MAX_SESSION_LIFETIME)
            .min(MAX_SESSION_LIFETIME);
        let limit = now.checked_add(lifetime).unwrap_or(Timestamp::MAX);
        let expires_at = claims
            .session_expires_at
            .unwrap_or(claims.expires_at)
            .min(limit);
        if expires_at <= now {
            return Err(CreateSessionError::Expired);
        }
        let revoked = self.keys.refresh();
        let key = self.keys.id_at_revision(claims.key_revision);
        let key = key.ok_or(CreateSessionError::TokenInvalid)?;
        if revoked.check(&claims.token).is_err() {
            return Err(CreateSessionError::TokenInvalid);
        }
        if revoked.check_session(now, &claims.token, key).is_err() {
            return Err(CreateSessionError::Revoked);
        }
        let values = SessionValues::generate()?;
        let stored = StoredSession {
            id: Uuid::new_v4(),
            subject: claims.subject.clone(),
            scope: claims.scopes.to_string(),
            created_at: now,
            expires_at,
            token: claims.token.clone(),
            key,
            cookie: ValueDigest::of(&values.cookie),
            session: Some(ValueDigest::of(&values.session)),
            former_session: None,
            ticket: ValueDigest::of(&values.ticket),
        };
        Ok(NewSession {
            stored,
            key_revision: claims.key_revision,
            values,
        })
    }

    /// Adds a session, which is valid from now on.
    ///
    /// # Errors
    ///
    /// The configured key has changed since the session was prepared.
    pub fn add(&self, new: NewSession) -> Result<(Session, SessionValues), CreateSessionError> {
        let active = ActiveSession {
            stored: new.stored,
            last_used: Instant::now(),
            ended: CancellationToken::new(),
        };
        let session = active.session();
        let validity = self.validity();
        if self.keys.id_at_revision(new.key_revision) != Some(active.stored.key) {
            return Err(CreateSessionError::TokenInvalid);
        }
        let mut table = self.table();
        while table.len() >= MAX_SESSIONS {
            // Expired ones are not removed earlier, because the clock may be set back.
            let oldest = (0..table.len()).min_by_key(|at| {
                let other = &table[*at];
                let is_valid = validity.is_valid(&other.stored);
                let has_more = !Scopes::from_claim(&other.stored.scope).is_within(session.scopes);
                let is_of_another = other.stored.subject != session.subject;
                (is_valid, has_more, is_of_another, other.last_used)
            });
            let Some(oldest) = oldest else { break };
            table.remove(oldest).ended.cancel();
        }
        table.push(active);
        Ok((session, new.values))
    }

    /// Creates a session for verified claims.
    ///
    /// # Errors
    ///
    /// The token is no longer valid.
    #[cfg(any(test, fuzzing))]
    pub fn create(&self, claims: &Claims) -> Result<(Session, SessionValues), CreateSessionError> {
        self.add(self.prepare(claims)?)
    }

    /// Finds the session of a value. One of the cookies must belong to it, except to end it; there
    /// are several when another server on this host set a cookie of the same name.
    ///
    /// # Errors
    ///
    /// The first failed check.
    pub fn verify<'a>(
        &self,
        credential: SessionCredential<'_>,
        mut cookies: impl Iterator<Item = &'a str>,
    ) -> Result<Session, SessionError> {
        let validity = self.validity();
        let mut table = self.table();
        // The time that comparing digests takes reveals nothing about the values.
        let found = match credential {
            SessionCredential::Session(value) => {
                let digest = Some(ValueDigest::of(value));
                table.iter_mut().find(|each| each.stored.session == digest)
            }
            SessionCredential::SessionToEnd(value) => {
                let digest = ValueDigest::of(value);
                let mut sessions = table.iter_mut();
                sessions.find(|each| each.stored.had_session_value(digest))
            }
            SessionCredential::Ticket(value) => {
                let digest = ValueDigest::of(value);
                table.iter_mut().find(|each| each.stored.ticket == digest)
            }
        };
        let session = found.ok_or(SessionError::Unknown)?;
        let needs_cookie = !matches!(credential, SessionCredential::SessionToEnd(_));
        if needs_cookie && !cookies.any(|cookie| ValueDigest::of(cookie) == session.stored.cookie) {
            return Err(SessionError::WrongCookie);
        }
        if session.stored.expires_at <= validity.now {
            return Err(SessionError::Expired);
        }
        if !validity.is_valid(&session.stored) {
            return Err(SessionError::Unknown);
        }
        session.last_used = Instant::now();
        Ok(session.session())
    }

    /// The sessions that a new sign-in ends: the one of the session value, whatever the cookie is,
    /// which a program that has stolen the values may have replaced. If only the log stream is left
    /// of a session, the cookie is enough, too: the user may sign in in another tab.
    pub fn presented<'a>(
        &self,
        session_value: Option<&str>,
        cookies: impl Iterator<Item = &'a str>,
    ) -> Vec<Uuid> {
        let digest = session_value.map(ValueDigest::of);
        let cookies: Vec<_> = cookies.map(ValueDigest::of).collect();
        let table = self.table();
        let sessions = table.iter().map(|each| &each.stored);
        let presented = sessions.filter(|each| {
            let has_value = digest.is_some_and(|digest| each.had_session_value(digest));
            let has_cookie = cookies.contains(&each.cookie);
            has_value || (each.session.is_none() && has_cookie)
        });
        presented.map(|each| each.id).collect()
    }

    /// Whether one of the cookies belongs to a valid session, of which pages still have the session
    /// value. It does not say to which one: the cookie alone is no credential, and another server on
    /// this host may have set it.
    pub fn has_cookie<'a>(&self, mut cookies: impl Iterator<Item = &'a str>) -> bool {
        let validity = self.validity();
        let table = self.table();
        cookies.any(|cookie| {
            let cookie = ValueDigest::of(cookie);
            let mut sessions = table.iter().map(|each| &each.stored);
            sessions.any(|each| {
                each.cookie == cookie && each.session.is_some() && validity.is_valid(each)
            })
        })
    }

    /// Ends a session. Returns false if there is no such session.
    pub fn end(&self, id: Uuid) -> bool {
        let mut table = self.table();
        let at = table.iter().position(|session| session.stored.id == id);
        if let Some(at) = at {
            table.remove(at).ended.cancel();
        }
        at.is_some()
    }

    /// Accepts only sessions that are also among those that `read` returns: another process serves
    /// now, and may end them.
    pub fn limit_to_successor(
        &self,
        read: impl Fn() -> Option<StoredSessions> + Send + Sync + 'static,
    ) {
        let _ = self.successor.set(Box::new(read));
    }

    /// Ends the sessions whose token was revoked. Returns how many of those of `before` ended: the
    /// sessions that were valid before the revocation.
    pub fn end_revoked(&self, before: &[Session]) -> usize {
        let revoked = self.keys.refresh();
        self.end_where(before, |session| {
            let checked = revoked.check_session(session.created_at, &session.token, session.key);
            // While the list is unreadable, a session is refused, but may be valid again.
            checked == Err(TokenError::Revoked)
        })
    }

    /// Ends all sessions. Returns how many of those of `before` ended.
    pub fn end_all(&self, before: &[Session]) -> usize {
        self.end_where(before, |_| true)
    }

    fn end_where(&self, before: &[Session], is_over: impl Fn(&StoredSession) -> bool) -> usize {
        let mut count = 0;
        self.table().retain(|session| {
            let is_over = is_over(&session.stored);
            if is_over {
                session.ended.cancel();
                let was_valid = before.iter().any(|valid| valid.id == session.stored.id);
                count += usize::from(was_valid);
            }
            !is_over
        });
        count
    }

    /// Whether a session is valid.
    #[must_use]
    pub fn contains(&self, id: Uuid) -> bool {
        let validity = self.validity();
        let table = self.table();
        let mut sessions = table.iter();
        sessions.any(|each| each.stored.id == id && validity.is_valid(&each.stored))
    }

    /// The valid sessions, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<Session> {
        let validity = self.validity();
        let table = self.table();
        let valid = table.iter().filter(|each| validity.is_valid(&each.stored));
        let mut sessions: Vec<_> = valid.map(ActiveSession::session).collect();
        sessions.sort_by_key(|session| session.created_at);
        sessions
    }

    /// The sessions, for the next process.
    #[must_use]
    pub fn stored(&self) -> StoredSessions {
        let mut table = self.table();
        table.sort_by_key(|session| session.last_used);
        StoredSessions(table.iter().map(|session| session.stored.clone()).collect())
    }

    /// Reads files, so it is not called while the table is locked.
    fn validity(&self) -> Validity<'_> {
        Validity {
            now: Timestamp::now(),
            revoked: self.keys.refresh(),
            keys: &self.keys,
            of_successor: self.successor.get().map(|read| read().unwrap_or_default()),
        }
    }

    fn table(&self) -> MutexGuard<'_, Vec<ActiveSession>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session that is not valid yet.
pub struct NewSession {
    stored: StoredSession,
    key_revision: u64,
    values: SessionValues,
}

impl NewSession {
    /// The id of the session.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.stored.id
    }
}

struct ActiveSession {
    stored: StoredSession,
    last_used: Instant,
    ended: CancellationToken,
}

impl ActiveSession {
    fn session(&self) -> Session {
        Session {
            id: self.stored.id,
            subject: self.stored.subject.clone(),
            scopes: Scopes::from_claim(&self.stored.scope),
            has_session_value: self.stored.session.is_some(),
            created_at: self.stored.created_at,
            expires_at: self.stored.expires_at,
            token: self.stored.token.clone(),
            ended: self.ended.clone(),
        }
    }
}

#[cfg(test)]
mod tests;

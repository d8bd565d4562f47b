//! Creates, verifies and ends sessions. A store serves one process; the owner of the store saves
//! its sessions for the next process.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::digest::ValueDigest;
use super::key::KeyError;
use super::keyring::ConfiguredKeys;
use super::revocations::RevokedNow;
use super::scope::Scopes;
use super::session::{Session, SessionCredential, SessionError, SessionValues};
use super::token::{Claims, TokenError, TokenMark};

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

/// The sessions of a process, for the next one: digests, in the order of their last use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct StoredSessions(Vec<StoredSession>);

/// Sessions that another version of the program has stored in another form end: the state file must
/// stay readable.
impl<'de> Deserialize<'de> for StoredSessions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let stored = Vec::<serde_json::Value>::deserialize(deserializer)?;
        let known = stored.into_iter().map(serde_json::from_value);
        Ok(Self(known.filter_map(Result::ok).collect()))
    }
}

/// One session as the state file holds it. The names of the fields are part of its format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct StoredSession {
    id: Uuid,
    subject: String,
    scope: String,
    created_at: Timestamp,
    expires_at: Timestamp,
    token: TokenMark,
    /// Identifies the configured key. The session ends with it.
    key: ValueDigest,
    cookie: ValueDigest,
    /// `None` once a process with another listening socket has started.
    session: Option<ValueDigest>,
    ticket: ValueDigest,
}

impl StoredSessions {
    /// Whether there is a session with this id.
    #[must_use]
    pub fn contains(&self, id: Uuid) -> bool {
        self.0.iter().any(|session| session.id == id)
    }

    /// Forgets the session values, so that only the log stream is left. For a process with another
    /// listening socket: another program may have listened on the port, and browsers take it for
    /// this one. An open page has sent it all values.
    #[must_use]
    pub fn without_session_values(mut self) -> Self {
        for session in &mut self.0 {
            session.session = None;
        }
        self
    }
}

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

    /// Finds the session of a value. One of the cookies must belong to it; there are several when
    /// another server on this host set a cookie of the same name.
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
            SessionCredential::Ticket(value) => {
                let digest = ValueDigest::of(value);
                table.iter_mut().find(|each| each.stored.ticket == digest)
            }
        };
        let session = found.ok_or(SessionError::Unknown)?;
        if !cookies.any(|cookie| ValueDigest::of(cookie) == session.stored.cookie) {
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
    pub fn follow(&self, read: impl Fn() -> Option<StoredSessions> + Send + Sync + 'static) {
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

/// Which sessions are valid at one moment.
struct Validity<'a> {
    now: Timestamp,
    revoked: RevokedNow,
    keys: &'a ConfiguredKeys,
    /// The sessions of the process that serves instead of this one.
    of_successor: Option<StoredSessions>,
}

impl Validity<'_> {
    fn is_valid(&self, session: &StoredSession) -> bool {
        let has_ended = self.of_successor.as_ref().is_some_and(|sessions| {
            let mut ids = sessions.0.iter().map(|other| other.id);
            !ids.any(|id| id == session.id)
        });
        let checked = self
            .revoked
            .check_session(session.created_at, &session.token, session.key);
        session.expires_at > self.now
            && self.keys.has_key(session.key)
            && checked.is_ok()
            && !has_ended
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
mod tests {
    use super::*;
    use crate::auth::{Keyring, PreviousKey, RevokedToken, Scope, TokenSigner};
    use crate::config::Secret;

    fn secret(byte: char) -> Secret {
        Secret::new(byte.to_string().repeat(32))
    }

    fn keys(byte: char) -> Arc<ConfiguredKeys> {
        Arc::new(ConfiguredKeys::new(&secret(byte), None))
    }

    fn sessions(byte: char) -> SessionStore {
        SessionStore::new(keys(byte), StoredSessions::default())
    }

    fn claims() -> Claims {
        Claims {
            scopes: Scopes::default().with(Scope::Logs),
            ..crate::auth::tests::claims()
        }
    }

    /// Verifies the session value and the cookie.
    fn verify(store: &SessionStore, values: &SessionValues) -> Result<Session, SessionError> {
        let credential = SessionCredential::Session(&values.session);
        store.verify(credential, [values.cookie.as_str()].into_iter())
    }

    /// The store of the next process.
    fn next(store: &SessionStore, byte: char) -> SessionStore {
        let text = serde_json::to_string(&store.stored()).unwrap();
        SessionStore::new(keys(byte), serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn session_keeps_claims_and_is_valid_in_next_process() {
        let (store, claims) = (sessions('c'), claims());
        let (session, values) = store.create(&claims).unwrap();
        let text = serde_json::to_string(&store.stored()).unwrap();
        for value in [&values.cookie, &values.session, &values.ticket] {
            assert_eq!(value.len(), 43);
            assert!(!text.contains(value.as_str()));
        }
        let known = verify(&next(&store, 'c'), &values).unwrap();
        let parts = |session: &Session| {
            let Session { id, expires_at, .. } = *session;
            (id, expires_at, session.subject.clone(), session.scopes)
        };
        assert_eq!(parts(&known), parts(&session));
        assert_eq!(session.expires_at, claims.expires_at);
        let with_other_key = verify(&next(&store, 'x'), &values);
        assert_eq!(with_other_key.unwrap_err(), SessionError::Unknown);
    }

    #[test]
    fn values_are_not_interchangeable() {
        use SessionCredential::{Session, Ticket};
        let store = sessions('c');
        let [one, other] = [(); 2].map(|()| store.create(&claims()).unwrap().1);
        let all = [&one.cookie, &one.session, &one.ticket, &other.cookie];
        let all = all.map(String::as_str);
        for value in all {
            for cookie in all {
                let is_own_cookie = cookie == one.cookie;
                let cookies = || [cookie].into_iter();
                let is_valid = store.verify(Session(value), cookies()).is_ok();
                assert_eq!(is_valid, is_own_cookie && value == one.session);
                let is_valid = store.verify(Ticket(value), cookies()).is_ok();
                assert_eq!(is_valid, is_own_cookie && value == one.ticket);
            }
        }
        // A planted cookie of the same name does no harm.
        let both = [other.cookie.as_str(), &one.cookie];
        store
            .verify(Session(&one.session), both.into_iter())
            .unwrap();
        let none = store.verify(Session(&one.session), [].into_iter());
        assert_eq!(none.unwrap_err(), SessionError::WrongCookie);
    }

    #[test]
    fn stored_session_of_another_form_ends_alone() {
        let store = sessions('c');
        store.create(&claims()).unwrap();
        let mut text = serde_json::to_value(store.stored()).unwrap();
        let known = text[0].clone();
        text[0].as_object_mut().unwrap().remove("created_at");
        text.as_array_mut().unwrap().push(known);
        let stored: StoredSessions = serde_json::from_value(text).unwrap();
        assert_eq!(stored, store.stored());
    }

    #[test]
    fn only_tickets_are_left_without_the_listening_socket() {
        let store = sessions('c');
        let (_, values) = store.create(&claims()).unwrap();
        let stored = store.stored().without_session_values();
        let next = SessionStore::new(keys('c'), stored);
        assert_eq!(verify(&next, &values).unwrap_err(), SessionError::Unknown);
        let ticket = SessionCredential::Ticket(&values.ticket);
        next.verify(ticket, [values.cookie.as_str()].into_iter())
            .unwrap();
        assert!(next.end(next.list()[0].id));
        let ended = next.verify(ticket, [values.cookie.as_str()].into_iter());
        assert_eq!(ended.unwrap_err(), SessionError::Unknown);
    }

    #[test]
    fn session_ends_with_its_token_unless_the_signer_says_otherwise() {
        let store = sessions('c');
        let now = Timestamp::now();
        let after = |duration| now.checked_add(duration).unwrap();
        let minutes = Duration::from_mins;
        let lifetime = |token: Timestamp, session| {
            let claims = Claims {
                expires_at: token,
                session_expires_at: session,
                ..claims()
            };
            store.create(&claims).map(|(session, _)| session.expires_at)
        };
        assert_eq!(
            lifetime(after(minutes(5)), None).unwrap(),
            after(minutes(5))
        );
        let longer = lifetime(after(minutes(1)), Some(after(minutes(60))));
        assert_eq!(longer.unwrap(), after(minutes(60)));
        let limited = lifetime(after(minutes(1)), Some(after(Duration::from_hours(13))));
        assert!(limited.unwrap() < after(MAX_SESSION_LIFETIME + minutes(1)));
        // Within the tolerated clock difference the token is valid.
        let expired = lifetime(now, None);
        assert!(matches!(expired, Err(CreateSessionError::Expired)));
    }

    #[test]
    fn ending_a_session_keeps_the_others() {
        let store = sessions('c');
        let (first, values) = store.create(&claims()).unwrap();
        let (_, other) = store.create(&claims()).unwrap();
        let ended = verify(&store, &values).unwrap().ended;
        assert!(store.end(first.id));
        assert!(!store.end(first.id));
        assert!(ended.is_cancelled());
        assert_eq!(verify(&store, &values).unwrap_err(), SessionError::Unknown);
        assert!(!verify(&store, &other).unwrap().ended.is_cancelled());
        let next = next(&store, 'c');
        assert_eq!(verify(&next, &values).unwrap_err(), SessionError::Unknown);
        verify(&next, &other).unwrap();
    }

    #[test]
    fn full_store_ends_least_recently_used_session() {
        let store = sessions('c');
        let all: Vec<_> = (0..MAX_SESSIONS)
            .map(|_| store.create(&claims()).unwrap().1)
            .collect();
        verify(&store, &all[0]).unwrap();
        let (_, another) = store.create(&claims()).unwrap();
        assert_eq!(verify(&store, &all[1]).unwrap_err(), SessionError::Unknown);
        verify(&store, &all[2]).unwrap();
        // The order is the same in the next process.
        let store = next(&store, 'c');
        let (_, last) = store.create(&claims()).unwrap();
        assert_eq!(verify(&store, &all[3]).unwrap_err(), SessionError::Unknown);
        for values in all
            .iter()
            .skip(4)
            .chain([&all[0], &all[2], &another, &last])
        {
            verify(&store, values).unwrap();
        }
        assert_eq!(store.list().len(), MAX_SESSIONS);
    }

    #[test]
    fn full_store_ends_invalid_sessions_first_and_then_own_ones() {
        let directory = tempfile::tempdir().unwrap();
        let keys = ConfiguredKeys::new(&secret('c'), None);
        let keys = Arc::new(keys.with_revocations(directory.path().join("x.revoked")));
        let store = SessionStore::new(Arc::clone(&keys), StoredSessions::default());
        let of = |subject: &str, token_id: &str| {
            let mut claims = Claims {
                subject: subject.into(),
                ..claims()
            };
            claims.token.id = Some(token_id.into());
            store.create(&claims).unwrap().1
        };
        let others = of("other", "valid");
        let own = of("own", "valid");
        for _ in 3..MAX_SESSIONS {
            of("other", "valid");
        }
        of("other", "revoked");
        let revoked = RevokedToken::with_id("revoked").unwrap();
        keys.revocations().revoke(&revoked).unwrap();
        of("own", "valid");
        for values in [&others, &own] {
            verify(&store, values).unwrap();
        }
        assert_eq!(store.list().len(), MAX_SESSIONS);
        of("own", "valid");
        let list = store.list();
        let own = list.iter().filter(|session| session.subject == "own");
        assert_eq!((own.count(), list.len()), (2, MAX_SESSIONS));
    }

    /// A token that only reads must not end the session of its user's console.
    #[test]
    fn full_store_keeps_sessions_with_more_scopes() {
        let store = sessions('c');
        let with_more = Claims {
            scopes: Scopes::ALL,
            ..claims()
        };
        let (_, kept) = store.create(&with_more).unwrap();
        for _ in 0..=MAX_SESSIONS {
            store.create(&claims()).unwrap();
        }
        verify(&store, &kept).unwrap();
        assert_eq!(store.list().len(), MAX_SESSIONS);
    }

    #[test]
    fn session_is_known_by_its_cookie_while_pages_have_its_value() {
        let store = sessions('c');
        let (session, values) = store.create(&claims()).unwrap();
        let is_known =
            |store: &SessionStore, cookies: &[&str]| store.has_cookie(cookies.iter().copied());
        assert!(is_known(&store, &["planted", &values.cookie]));
        assert!(!is_known(&store, &["planted", &values.session]));
        let stored = store.stored().without_session_values();
        let next = SessionStore::new(keys('c'), stored);
        assert!(!is_known(&next, &[&values.cookie]));
        store.end(session.id);
        assert!(!is_known(&store, &[&values.cookie]));
    }

    #[test]
    fn session_ends_with_its_key() {
        let keys = keys('c');
        let store = SessionStore::new(Arc::clone(&keys), StoredSessions::default());
        let (_, values) = store.create(&claims()).unwrap();
        assert!(!keys.rotate(&secret('c'), Duration::ZERO));
        assert!(keys.rotate(&secret('d'), Duration::from_mins(1)));
        verify(&store, &values).unwrap();
        let handed_over = keys.previous().unwrap();
        assert!(handed_over.valid_for > Duration::from_secs(50));
        let next = |previous| {
            let keys = ConfiguredKeys::new(&secret('d'), Some(previous));
            SessionStore::new(Arc::new(keys), store.stored())
        };
        verify(&next(handed_over), &values).unwrap();
        let expired = PreviousKey {
            secret: secret('c'),
            valid_for: Duration::ZERO,
        };
        let result = verify(&next(expired), &values);
        assert_eq!(result.unwrap_err(), SessionError::Unknown);
        assert!(keys.rotate(&secret('e'), Duration::ZERO));
        assert_eq!(verify(&store, &values).unwrap_err(), SessionError::Unknown);
    }

    #[test]
    fn claims_from_before_key_rotation_create_no_session() {
        let keys = keys('c');
        let store = SessionStore::new(Arc::clone(&keys), StoredSessions::default());
        let ring = Keyring::new(Arc::clone(&keys), &secret('i'));
        let verified = |signer: TokenSigner| {
            let token = signer.sign("me", Scopes::ALL, Duration::from_mins(1));
            ring.verify(&token.unwrap()).unwrap()
        };
        let is_rejected = |claims: &Claims| {
            let outcome = store.create(claims);
            matches!(outcome, Err(CreateSessionError::TokenInvalid))
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

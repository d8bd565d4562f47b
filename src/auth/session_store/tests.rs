//! Tests of the sessions.

use super::*;
use crate::auth::{Keyring, PreviousKey, Revocations, RevokedToken, Scope, TokenSigner};
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
    let revocations = Revocations::new(Some(directory.path().join("x.revoked")));
    let keys = Arc::new(keys.with_revocations(revocations));
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

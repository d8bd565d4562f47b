//! Tests of the revoked tokens.

use std::fs;

use super::file::replace;
use super::list::{Entry, MAX_ID_LEN, MAX_KEPT, MAX_REVOKED};
use super::*;
use crate::auth::token::{TokenError, TokenMark};

/// A configured key, and its id.
fn key(name: &str) -> (Secret, ValueDigest) {
    let key = Secret::new(name.repeat(32));
    let id = key_id(&key);
    (key, id)
}

/// All tokens of the configured key "k" are revoked, as those of [`mark`].
fn revoke_all(revocations: &Revocations) -> RevokedAll {
    let keys = RevokedKeys {
        kept: vec![key("k").1],
        ..RevokedKeys::default()
    };
    revocations.revoke_all(&keys).unwrap()
}

fn write_list(path: &Path, tokens: impl Iterator<Item = Entry>) {
    let list = serde_json::json!({ "tokens": tokens.collect::<Vec<_>>() });
    let _ = replace(path, list.to_string().as_bytes()).unwrap();
}

fn mark(id: &str, issued_at: i64) -> TokenMark {
    TokenMark {
        id: Some(id.into()),
        digest: ValueDigest::of(id),
        issued_at: Some(issued_at),
        is_of_instance: false,
        key: Some(key("k").1),
    }
}

#[test]
fn other_processes_know_of_a_revocation_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = Some(directory.path().join("x.revoked"));
    let [one, other] = [(); 2].map(|()| Revocations::new(path.clone()));
    let now = Timestamp::now().as_second();
    let [first, second] = ["first", "second"].map(|id| mark(id, now));
    assert_eq!(other.now().check(&first), Ok(()));
    one.revoke(&RevokedToken::with_id("first").unwrap())
        .unwrap();
    for revocations in [&one, &other] {
        assert_eq!(revocations.now().check(&first), Err(TokenError::Revoked));
        assert_eq!(revocations.now().check(&second), Ok(()));
    }
    let limit = revoke_all(&other).valid_from.as_second();
    let of_instance = TokenMark {
        is_of_instance: true,
        ..second.clone()
    };
    let undated = TokenMark {
        issued_at: None,
        ..second.clone()
    };
    for (token, expected) in [
        (&second, Err(TokenError::Revoked)),
        (&undated, Err(TokenError::Revoked)),
        (&of_instance, Ok(())),
        (&mark("third", limit), Ok(())),
    ] {
        assert_eq!(one.now().check(token), expected, "{token:?}");
    }
}

#[test]
fn tokens_of_other_keys_stay_valid() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.revoked");
    let revocations = Revocations::new(Some(path.clone()));
    let now = Timestamp::now();
    let own = mark("own", now.as_second());
    let other = TokenMark {
        key: Some(key("o").1),
        ..mark("other", now.as_second())
    };
    let revoked = RevokedToken::with_id("revoked").unwrap();
    let revoked_mark = TokenMark {
        id: Some("revoked".into()),
        ..other.clone()
    };
    revocations.revoke(&revoked).unwrap();
    revoke_all(&revocations);
    let is_revoked = |mark| revocations.now().check(mark) == Err(TokenError::Revoked);
    let session = |mark: &TokenMark| {
        let mark = TokenMark {
            is_of_instance: true,
            ..mark.clone()
        };
        revocations
            .now()
            .check_session(now, &mark, mark.key.unwrap())
    };
    assert!(is_revoked(&own) && !is_revoked(&other) && is_revoked(&revoked_mark));
    assert_eq!(session(&own), Err(TokenError::Revoked));
    assert_eq!(session(&other), Ok(()));
    // It is unknown which tokens of other keys were revoked.
    fs::write(&path, "{").unwrap();
    assert_eq!(session(&other), Err(TokenError::RevocationsUnreadable));
    revoke_all(&revocations);
    assert!(is_revoked(&own) && is_revoked(&other));
    assert_eq!(session(&other), Err(TokenError::Revoked));
}

#[test]
fn many_limits_become_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.revoked");
    let revocations = Revocations::new(Some(path.clone()));
    let now = Timestamp::now().as_second();
    let marks: Vec<_> = (0..150)
        .map(|number| TokenMark {
            key: Some(ValueDigest::of(&format!("key {number}"))),
            ..mark("any", now)
        })
        .collect();
    for mark in &marks {
        let keys = RevokedKeys {
            kept: vec![mark.key.unwrap()],
            ..RevokedKeys::default()
        };
        revocations.revoke_all(&keys).unwrap();
    }
    for mark in &marks {
        assert_eq!(revocations.now().check(mark), Err(TokenError::Revoked));
    }
    assert!(fs::metadata(&path).unwrap().len() < 20_000);
}

#[test]
fn list_drops_only_what_expired_a_day_ago() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.revoked");
    let now = Timestamp::now();
    let entry = |number: usize| Entry {
        jti: Some(number.to_string()),
        digest: None,
        exp: now - SignedDuration::from_hours(if number == 7 { 25 } else { 23 }),
        iat: None,
        instance: false,
    };
    write_list(&path, (0..MAX_REVOKED).map(entry));
    let revocations = Revocations::new(Some(path.clone()));
    let revoke = |id| revocations.revoke(&RevokedToken::with_id(id).unwrap());
    revoke("another").unwrap();
    let kept = read_list(&path).unwrap().tokens;
    assert_eq!(kept.len(), MAX_REVOKED);
    assert!(!kept.contains(&entry(7)) && kept.contains(&entry(8)));
    assert!(matches!(revoke("one-more"), Err(RevokeError::Full)));
}

#[test]
fn unreadable_file_refuses_tokens_of_the_configured_key() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.revoked");
    let revocations = Revocations::new(Some(path.clone()));
    let token = mark("first", 1);
    fs::write(&path, "{").unwrap();
    let unreadable = Err(TokenError::RevocationsUnreadable);
    assert_eq!(revocations.now().check(&token), unreadable);
    let of_instance = TokenMark {
        is_of_instance: true,
        ..token.clone()
    };
    assert_eq!(revocations.now().check(&of_instance), Ok(()));
    let one = RevokedToken::with_id("second").unwrap();
    assert!(matches!(
        revocations.revoke(&one),
        Err(RevokeError::Read { .. })
    ));
    // No entry is needed for what was issued before.
    revoke_all(&revocations);
    assert_eq!(revocations.now().check(&token), Err(TokenError::Revoked));
    revocations.revoke(&one).unwrap();
    fs::remove_file(&path).unwrap();
    assert_eq!(revocations.now().check(&token), Ok(()));
}

#[test]
fn list_is_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.revoked");
    let entry = |number: usize| Entry {
        jti: Some(number.to_string()),
        digest: None,
        exp: Timestamp::MAX,
        iat: None,
        instance: false,
    };
    write_list(&path, (0..MAX_REVOKED).map(entry));
    let revocations = Revocations::new(Some(path));
    // One that is listed already needs no room.
    revocations
        .revoke(&RevokedToken::with_id("7").unwrap())
        .unwrap();
    let full = revocations.revoke(&RevokedToken::with_id("another").unwrap());
    assert!(matches!(full, Err(RevokeError::Full)));
    revoke_all(&revocations);
    revocations
        .revoke(&RevokedToken::with_id("another").unwrap())
        .unwrap();
}

#[test]
fn longest_ids_fit_into_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.revoked");
    // Quotation marks take two bytes each.
    let id = |number: usize| format!("{number:\"<MAX_ID_LEN$}");
    let entry = |number| RevokedToken::with_id(&id(number)).unwrap().entry;
    write_list(&path, (0..MAX_REVOKED - 1).map(entry));
    let revocations = Revocations::new(Some(path.clone()));
    revocations
        .revoke(&RevokedToken::with_id(&id(MAX_REVOKED)).unwrap())
        .unwrap();
    read_list(&path).unwrap();
    for invalid in [&"a".repeat(MAX_ID_LEN + 1), "", "\u{1}", "\u{e9}", "a b"] {
        let token = RevokedToken::with_id(invalid);
        assert!(matches!(token, Err(RevokeError::InvalidId)), "{invalid:?}");
    }
}

#[test]
fn token_is_no_id() {
    let token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJtZSJ9.c2lnbmF0dXJl";
    let (part, _) = token.rsplit_once('.').unwrap();
    for text in [
        token,
        part,
        &token[1..],
        &format!("Bearer {token}"),
        &format!("x:{token}"),
        // The header, its beginning, and the claims.
        &token[..20],
        &token[..13],
        &token[21..],
    ] {
        let id = RevokedToken::with_id(text);
        assert!(matches!(id, Err(RevokeError::TokenAsId)), "{text}");
    }
    for text in ["a.b.c", "eyJ-id", "eyJ.x.y", "0c4b8a52-8a0c"] {
        RevokedToken::with_id(text).unwrap();
    }
}

#[test]
fn revoking_all_keeps_tokens_that_were_issued_ahead_of_the_clock() {
    let directory = tempfile::tempdir().unwrap();
    let revocations = Revocations::new(Some(directory.path().join("x.revoked")));
    let now = Timestamp::now().as_second();
    let entry = |number: usize, iat| Entry {
        jti: None,
        digest: Some(ValueDigest::of(&number.to_string())),
        exp: Timestamp::MAX,
        iat,
        instance: false,
    };
    let early = entry(0, Some(now + 600));
    let others = (1..MAX_REVOKED).map(|number| entry(number, None));
    let path = revocations.path.clone().unwrap();
    write_list(&path, [early.clone()].into_iter().chain(others));
    revoke_all(&revocations);
    let kept = read_list(&path).unwrap().tokens;
    assert_eq!((kept.len(), &kept[0]), (MAX_KEPT, &early));
}

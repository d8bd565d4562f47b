//! Tests of the revoked tokens.

use std::fs;

use super::file::replace;
use super::list::{Entry, MAX_ID_LEN, MAX_IDS, MAX_REVOKED};
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

/// A token of the configured key "k".
fn entry(number: usize) -> Entry {
    Entry {
        jti: None,
        digest: Some(ValueDigest::of(&number.to_string())),
        exp: Timestamp::MAX,
        iat: None,
        instance: false,
        key: Some(key("k").1),
    }
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
    let expired = |number: usize| Entry {
        exp: now - SignedDuration::from_hours(if number == 7 { 25 } else { 23 }),
        ..entry(number)
    };
    write_list(&path, (0..MAX_REVOKED).map(expired));
    let revocations = Revocations::new(Some(path.clone()));
    let revoke = |id| revocations.revoke(&RevokedToken::with_id(id).unwrap());
    revoke("another").unwrap();
    let kept = read_list(&path).unwrap().tokens;
    assert_eq!(kept.len(), MAX_REVOKED);
    assert!(!kept.contains(&expired(7)) && kept.contains(&expired(8)));
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
}

#[test]
fn file_that_was_removed_is_no_empty_list() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.revoked");
    let revocations = Revocations::new(Some(path.clone()));
    let [first, second] = ["first", "second"].map(|id| RevokedToken::with_id(id).unwrap());
    let token = mark("first", Timestamp::now().as_second());
    assert_eq!(revocations.now().check(&token), Ok(()));
    revocations.revoke(&first).unwrap();
    assert_eq!(revocations.now().check(&token), Err(TokenError::Revoked));
    let text = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let assert_unknown = || {
        let checked = revocations.now().check(&token);
        assert_eq!(checked, Err(TokenError::RevocationsUnreadable));
        let refused = revocations.revoke(&second);
        assert!(matches!(refused, Err(RevokeError::Read { .. })));
    };
    assert_unknown();
    assert_unknown();
    let _ = replace(&path, &text).unwrap();
    assert_eq!(revocations.now().check(&token), Err(TokenError::Revoked));
    fs::remove_file(&path).unwrap();
    // It is not known any more which tokens of other keys are revoked.
    revoke_all(&revocations);
    let of_other_key = TokenMark {
        key: Some(key("o").1),
        ..mark("other", Timestamp::now().as_second())
    };
    for token in [&token, &of_other_key] {
        assert_eq!(revocations.now().check(token), Err(TokenError::Revoked));
    }
}

/// Nobody can push another entry out of the list.
#[test]
fn list_is_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.revoked");
    let ids = (0..MAX_IDS).map(|number| Entry {
        jti: Some(number.to_string()),
        digest: None,
        ..entry(number)
    });
    let tokens = (MAX_IDS..MAX_REVOKED - 1).map(entry);
    write_list(&path, ids.chain(tokens));
    let revocations = Revocations::new(Some(path.clone()));
    let revoke_id = |id| {
        let mut token = RevokedToken::with_id(id).unwrap();
        token.entry.key = Some(key("k").1);
        revocations.revoke(&token)
    };
    let revoke_token = |number| {
        let mut token = RevokedToken::with_id("x").unwrap();
        token.entry = entry(number);
        revocations.revoke(&token)
    };
    // One that is listed already needs no room.
    revoke_id("7").unwrap();
    assert!(matches!(revoke_id("another"), Err(RevokeError::FullOfIds)));
    revoke_token(MAX_REVOKED).unwrap();
    let full = revoke_token(MAX_REVOKED + 1);
    assert!(matches!(full, Err(RevokeError::Full)));
    // The tokens are refused without their entries now, but an id may be that of one that was
    // issued ahead of the clock.
    revoke_all(&revocations);
    let ahead = mark("7", Timestamp::now().as_second() + 600);
    assert_eq!(revocations.now().check(&ahead), Err(TokenError::Revoked));
    assert!(matches!(revoke_id("another"), Err(RevokeError::FullOfIds)));
    revoke_token(MAX_REVOKED + 1).unwrap();
    // Another key may have signed tokens with these ids.
    let keys = RevokedKeys {
        ended: vec![key("k").1],
        ..RevokedKeys::default()
    };
    revocations.revoke_all(&keys).unwrap();
    let kept = read_list(&path).unwrap().tokens;
    assert!(kept.len() == MAX_IDS && kept.iter().all(|entry| entry.jti.is_some()));
}

#[test]
fn ended_keys_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.revoked");
    let revocations = Revocations::new(Some(path.clone()));
    let end = |keys: Vec<ValueDigest>| {
        let keys = RevokedKeys {
            ended: keys,
            ..RevokedKeys::default()
        };
        revocations.revoke_all(&keys).unwrap();
    };
    let other = |number: usize| ValueDigest::of(&number.to_string());
    end(vec![key("k").1]);
    end((0..150).map(other).collect());
    assert_eq!(
        revocations
            .check_key(&key("k").0)
            .map_err(|it| it.to_string()),
        Err(KeyError::Revoked.to_string())
    );
}

#[test]
fn longest_ids_fit_into_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.revoked");
    // Quotation marks take two bytes each.
    let id = |number: usize| format!("{number:\"<MAX_ID_LEN$}");
    let entry = |number| RevokedToken::with_id(&id(number)).unwrap().entry;
    let tokens = (MAX_IDS..MAX_REVOKED).map(self::entry);
    write_list(&path, (1..MAX_IDS).map(entry).chain(tokens));
    let revocations = Revocations::new(Some(path.clone()));
    revocations
        .revoke(&RevokedToken::with_id(&id(MAX_IDS)).unwrap())
        .unwrap();
    read_list(&path).unwrap();
    for invalid in [&"a".repeat(MAX_ID_LEN + 1), "", "\u{1}", "\u{e9}", "a b"] {
        let token = RevokedToken::with_id(invalid);
        assert!(matches!(token, Err(RevokeError::InvalidId)), "{invalid:?}");
    }
}

#[test]
fn token_is_no_id() {
    let token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJtZSJ9.c2lnbmF0dXJlLXNpZ25hdHVyZS1zaWduYXR1cmUtMTI";
    let (part, signature) = token.rsplit_once('.').unwrap();
    assert_eq!(signature.len(), 43);
    let encoded = token.replace('.', "%2E").replace('e', "%65");
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
        &token[25..],
        &format!("x.{signature}"),
        &encoded,
    ] {
        let id = RevokedToken::with_id(text);
        assert!(matches!(id, Err(RevokeError::TokenAsId)), "{text}");
    }
    // Other programs choose 32 random bytes, and write them like a signature.
    for text in [
        "a.b.c",
        "eyJ-id",
        "eyJ.x.y",
        "0c4b8a52-8a0c",
        "50%",
        signature,
    ] {
        RevokedToken::with_id(text).unwrap();
    }
}

#[test]
fn revoking_all_keeps_tokens_that_were_issued_ahead_of_the_clock() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.revoked");
    let revocations = Revocations::new(Some(path.clone()));
    let now = Timestamp::now().as_second();
    let issued = |number, iat| Entry {
        iat: Some(iat),
        ..entry(number)
    };
    let of_other_key = Entry {
        key: Some(key("o").1),
        ..issued(3, now - 600)
    };
    let kept = [issued(0, now + 600), of_other_key];
    let covered = [issued(1, now - 600), entry(2)];
    write_list(&path, kept.iter().chain(&covered).cloned());
    revoke_all(&revocations);
    assert_eq!(read_list(&path).unwrap().tokens, kept);
}

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::*;
use crate::config::Secret;
use crate::identity::identity;
use std::time::Duration;

/// Claims of a token that is valid for a minute.
pub fn claims() -> Claims {
    let signer = TokenSigner::with_configured_key(&secret('c'));
    let token = signer.sign("me", Scopes::ALL, Duration::from_mins(1));
    keyring().verify(&token.unwrap()).unwrap()
}

fn secret(byte: char) -> Secret {
    Secret::new(byte.to_string().repeat(32))
}

fn keyring() -> Keyring {
    let configured = ConfiguredKeys::new(&secret('c'), None);
    Keyring::new(std::sync::Arc::new(configured), &secret('i'))
}

fn forge(claims: &Value) -> String {
    hs256::install();
    jsonwebtoken::encode(
        &Header::new(Algorithm::HS256),
        claims,
        &EncodingKey::from_secret(secret('c').expose().as_bytes()),
    )
    .unwrap()
}

fn good_claims() -> Value {
    json!({
        "sub": "me",
        "aud": identity().token_audience(),
        "scope": "admin:read",
        "exp": jiff::Timestamp::now().as_second() + 60,
    })
}

#[test]
fn configured_and_instance_keys_are_accepted() {
    let ring = keyring();
    let scopes = Scopes::default().with(Scope::Logs).with(Scope::Read);
    for signer in [
        TokenSigner::with_configured_key(&secret('c')),
        TokenSigner::with_instance_key(&secret('i')),
    ] {
        let token = signer.sign("me", scopes, Duration::from_mins(1)).unwrap();
        let claims = ring.verify(&token).unwrap();
        assert_eq!((claims.subject.as_str(), claims.scopes), ("me", scopes));
        assert!(claims.token_id.is_some());
    }
    for signer in [
        TokenSigner::with_configured_key(&secret('x')),
        TokenSigner::with_configured_key(&secret('i')),
        TokenSigner::with_instance_key(&secret('c')),
    ] {
        let token = signer.sign("me", scopes, Duration::from_mins(1)).unwrap();
        assert_eq!(ring.verify(&token), Err(TokenError::BadSignature));
    }
}

#[test]
fn required_claims_are_validated() {
    let ring = keyring();
    let now = jiff::Timestamp::now().as_second();
    assert!(ring.verify(&forge(&good_claims())).is_ok());
    for claim in ["sub", "aud", "scope", "exp"] {
        let mut claims = good_claims();
        claims.as_object_mut().unwrap().remove(claim);
        let missing = Err(TokenError::MissingClaim);
        assert_eq!(ring.verify(&forge(&claims)), missing, "{claim}");
        // Reported first, whatever else is wrong.
        for (other, value) in [("exp", json!(now - 60)), ("aud", json!("other"))] {
            if claim != other {
                let mut claims = claims.clone();
                claims[other] = value;
                assert_eq!(ring.verify(&forge(&claims)), missing, "{claim}, {other}");
            }
        }
    }
    let year = 366 * 24 * 60 * 60;
    let mut claims = good_claims();
    claims["exp"] = json!(now + year);
    assert!(ring.verify(&forge(&claims)).is_ok());
    let cases = [
        ("exp", json!(now - 60), TokenError::Expired),
        ("exp", json!(now + year + 60), TokenError::ExpiresTooLate),
        ("exp", json!(i64::MAX), TokenError::ExpiresTooLate),
        ("nbf", json!(now + 60), TokenError::NotYetValid),
        ("aud", json!("other"), TokenError::WrongAudience),
        ("sub", json!(""), TokenError::MissingClaim),
        ("scope", json!(7), TokenError::Malformed),
    ];
    for (claim, value, expected) in cases {
        let mut claims = good_claims();
        claims[claim] = value;
        assert_eq!(ring.verify(&forge(&claims)), Err(expected), "{claim}");
    }
}

#[test]
fn algorithm_in_token_header_is_not_trusted() {
    let ring = keyring();
    let good = forge(&good_claims());
    let rest = good.split_once('.').unwrap().1;
    // {"alg":"none"} and {"alg":"HS512"}
    for header in ["eyJhbGciOiJub25lIn0", "eyJhbGciOiJIUzUxMiJ9"] {
        let refused = ring.verify(&format!("{header}.{rest}")).unwrap_err();
        assert!(
            matches!(
                refused,
                TokenError::UnsupportedAlgorithm | TokenError::Malformed
            ),
            "{refused:?}"
        );
    }
    for garbage in ["", ".", "..", "a.b.c", &good[..good.len() - 2]] {
        assert!(ring.verify(garbage).is_err(), "{garbage}");
    }
}

#[test]
fn critical_extensions_are_rejected() {
    hs256::install();
    let mut header = Header::new(Algorithm::HS256);
    header.crit = Some(vec!["b64".into()]);
    let key = EncodingKey::from_secret(secret('c').expose().as_bytes());
    let token = jsonwebtoken::encode(&header, &good_claims(), &key).unwrap();
    assert_eq!(keyring().verify(&token), Err(TokenError::Malformed));
}

#[test]
fn unknown_scopes_fail_in_flags_and_are_ignored_in_tokens() {
    assert_eq!(
        Scopes::from_claim("openid admin:logs").to_string(),
        "admin:logs"
    );
    assert_eq!(Scopes::from_claim("admin:control2"), Scopes::default());
    assert_eq!(
        "admin:read,admin:control"
            .parse::<Scopes>()
            .unwrap()
            .to_string(),
        "admin:read admin:control"
    );
    assert!("admin:everything".parse::<Scopes>().is_err());
    assert!("".parse::<Scopes>().is_err());
}

/// A token that was issued ahead of the clock, so that its time does not revoke it.
fn forge_ahead() -> String {
    let mut claims = good_claims();
    claims["iat"] = json!(jiff::Timestamp::now().as_second() + 30);
    forge(&claims)
}

/// The keys 'd' and, for a while, 'c'.
fn keyring_in_grace(revoked: &std::path::Path) -> Keyring {
    let previous = PreviousKey {
        secret: secret('c'),
        valid_for: Duration::from_mins(10),
    };
    let keys = ConfiguredKeys::new(&secret('d'), Some(previous));
    let keys = keys.with_revocations(Revocations::new(Some(revoked.to_owned())));
    Keyring::new(std::sync::Arc::new(keys), &secret('i'))
}

#[test]
fn previous_key_ends_when_another_process_revokes_all_tokens() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.revoked");
    let ring = keyring_in_grace(&path);
    let token = forge_ahead();
    let revision = ring.verify(&token).unwrap().key_revision;
    let keys = RevokedKeys {
        kept: vec![key_id(&secret('d'))],
        ..RevokedKeys::default()
    };
    Revocations::new(Some(path)).revoke_all(&keys).unwrap();
    assert_eq!(ring.verify(&token), Err(TokenError::BadSignature));
    // One-time tokens from before end, too.
    let instance = TokenSigner::with_instance_key(&secret('i'));
    let instance = instance.sign("me", Scopes::ALL, Duration::from_mins(1));
    let later = ring.verify(&instance.unwrap()).unwrap().key_revision;
    assert!(later > revision);
}

/// The list does not name every key that ever ended.
#[test]
fn process_with_an_old_key_asks_the_key_file() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.revoked");
    let key_file = directory.path().join("x.key");
    let [old, new] = [(); 2].map(|()| generate_key().unwrap());
    let keys =
        ConfiguredKeys::new(&old, None).with_revocations(Revocations::new(Some(path.clone())));
    keys.set_key_file(Some(key_file.clone()));
    let ring = Keyring::new(std::sync::Arc::new(keys), &secret('i'));
    let [old, new_token] = [&old, &new].map(|key| {
        let signer = TokenSigner::with_configured_key(key);
        signer
            .sign("me", Scopes::ALL, Duration::from_mins(1))
            .unwrap()
    });
    ring.verify(&old).unwrap();
    std::fs::write(&key_file, new.expose()).unwrap();
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(&key_file, private).unwrap();
    ring.verify(&old).unwrap();
    let ended: Vec<_> = (0..10_000)
        .map(|it| ValueDigest::of(&it.to_string()))
        .collect();
    let list = json!({ "keys": ended }).to_string();
    std::fs::write(&path, list).unwrap();
    assert_eq!(ring.verify(&old), Err(TokenError::BadSignature));
    ring.verify(&new_token).unwrap();
}

#[test]
fn only_signed_tokens_are_revoked() {
    let directory = tempfile::tempdir().unwrap();
    let ring = keyring_in_grace(&directory.path().join("x.revoked"));
    let check = |token: &str| {
        let checked = ring.check_revoked(RevokedToken::with_text(token).unwrap());
        checked.map(|token| token.audit_name().to_owned())
    };
    let mut claims = good_claims();
    claims["jti"] = json!("an-id");
    // Also of the previous key, and expired.
    claims["exp"] = json!(1);
    let token = forge(&claims);
    assert_eq!(check(&token).unwrap(), "jti an-id");
    let signer = TokenSigner::with_instance_key(&secret('i'));
    let instance = signer.sign("me", Scopes::ALL, Duration::from_mins(1));
    check(&instance.unwrap()).unwrap();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    claims["scope"] = json!("admin:logs");
    let other = forge(&claims);
    let other_signed = other.rsplit_once('.').unwrap().0;
    for not_signed in [
        format!("{signed}."),
        format!("{signed}.{}", &signature[1..]),
        format!("{other_signed}.{signature}"),
        TokenSigner::with_instance_key(&secret('c'))
            .sign("me", Scopes::ALL, Duration::from_mins(1))
            .unwrap(),
    ] {
        let refused = check(&not_signed);
        assert!(
            matches!(refused, Err(RevokeError::NotSigned)),
            "{not_signed}"
        );
    }
}

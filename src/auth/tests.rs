use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::*;

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
        "aud": AUDIENCE,
        "scope": "admin:read",
        "exp": jiff::Timestamp::now().as_second() + 60,
    })
}

#[test]
fn both_keys_are_accepted_and_a_third_is_not() {
    let ring = keyring();
    let scopes = Scopes::default().with(Scope::Logs).with(Scope::Read);
    for signer in [
        Signer::configured(&secret('c')),
        Signer::instance(&secret('i')),
    ] {
        let token = signer.sign("me", scopes, Duration::from_mins(1)).unwrap();
        let claims = ring.verify(&token).unwrap();
        assert_eq!((claims.subject.as_str(), claims.scopes), ("me", scopes));
        assert!(claims.token_id.is_some());
    }
    for signer in [
        Signer::configured(&secret('x')),
        Signer::configured(&secret('i')),
        Signer::instance(&secret('c')),
    ] {
        let token = signer.sign("me", scopes, Duration::from_mins(1)).unwrap();
        assert_eq!(ring.verify(&token), Err(Refused::Signature));
    }
}

#[test]
fn each_claim_is_required_and_checked() {
    let ring = keyring();
    let now = jiff::Timestamp::now().as_second();
    assert!(ring.verify(&forge(&good_claims())).is_ok());
    for claim in ["sub", "aud", "scope", "exp"] {
        let mut claims = good_claims();
        claims.as_object_mut().unwrap().remove(claim);
        assert_eq!(
            ring.verify(&forge(&claims)),
            Err(Refused::MissingClaim),
            "{claim}"
        );
    }
    let cases = [
        ("exp", json!(now - 60), Refused::Expired),
        ("nbf", json!(now + 60), Refused::Immature),
        ("aud", json!("other"), Refused::Audience),
        ("sub", json!(""), Refused::MissingClaim),
        ("scope", json!(7), Refused::Malformed),
    ];
    for (claim, value, expected) in cases {
        let mut claims = good_claims();
        claims[claim] = value;
        assert_eq!(ring.verify(&forge(&claims)), Err(expected), "{claim}");
    }
}

#[test]
fn the_algorithm_is_not_taken_from_the_token() {
    let ring = keyring();
    let good = forge(&good_claims());
    let rest = good.split_once('.').unwrap().1;
    // {"alg":"none"} and {"alg":"HS512"}
    for header in ["eyJhbGciOiJub25lIn0", "eyJhbGciOiJIUzUxMiJ9"] {
        let refused = ring.verify(&format!("{header}.{rest}")).unwrap_err();
        assert!(
            matches!(refused, Refused::Algorithm | Refused::Malformed),
            "{refused:?}"
        );
    }
    for garbage in ["", ".", "..", "a.b.c", &good[..good.len() - 2]] {
        assert!(ring.verify(garbage).is_err(), "{garbage}");
    }
}

#[test]
fn extensions_that_must_be_understood_are_not() {
    hs256::install();
    let mut header = Header::new(Algorithm::HS256);
    header.crit = Some(vec!["b64".into()]);
    let key = EncodingKey::from_secret(secret('c').expose().as_bytes());
    let token = jsonwebtoken::encode(&header, &good_claims(), &key).unwrap();
    assert_eq!(keyring().verify(&token), Err(Refused::Malformed));
}

#[test]
fn unknown_scopes_are_refused_from_operators_and_passed_over_in_tokens() {
    assert_eq!(
        Scopes::of_claim("openid admin:logs").to_string(),
        "admin:logs"
    );
    assert_eq!(Scopes::of_claim("admin:control2"), Scopes::default());
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

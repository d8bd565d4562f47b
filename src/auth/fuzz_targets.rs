//! Fuzz target of tokens and sessions: a token is accepted only if it was signed here, is unchanged,
//! and is used for its purpose.

#![expect(clippy::unwrap_used, reason = "a broken promise has to panic")]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::Value;

use crate::auth::{
    ConfiguredKeys, Keyring, Scope, Scopes, SessionCredential, SessionStore, SessionValues,
    StoredSessions, TokenSigner,
};
use crate::config::Secret;
use crate::identity::identity;

const CONFIGURED: &str = "a configured key of a fuzzed daemon";
const INSTANCE: &str = "an instance key of a fuzzed daemon";
/// The accepted clock difference, and some time for a slow machine.
const LEEWAY: f64 = 30.0;

struct Auth {
    keyring: Keyring,
    sessions: SessionStore,
    tokens: [String; 2],
    session: SessionValues,
}

static AUTH: LazyLock<Auth> = LazyLock::new(|| {
    let (configured, instance) = (secret(CONFIGURED), secret(INSTANCE));
    let keys = Arc::new(ConfiguredKeys::new(&configured, None));
    let keyring = Keyring::new(Arc::clone(&keys), &instance);
    let sessions = SessionStore::new(keys, StoredSessions::default());
    let signers = [
        TokenSigner::with_configured_key(&configured),
        TokenSigner::with_instance_key(&instance),
    ];
    let tokens = signers.map(|signer| {
        let day = Duration::from_hours(24);
        signer.sign("me", Scopes::ALL, day).unwrap()
    });
    let claims = keyring.verify(&tokens[0]).unwrap();
    let (_, session) = sessions.create(&claims).unwrap();
    Auth {
        keyring,
        sessions,
        tokens,
        session,
    }
});

fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

/// The first byte selects the case: `c` and `i` sign the claims that follow with the configured or
/// the instance key. `m` changes valid tokens (position, length, replacement). Otherwise the input is
/// a token.
pub fn token(bytes: &[u8]) {
    match bytes {
        [b'c', claims @ ..] => check_signed(claims, None),
        [b'i', claims @ ..] => check_signed(claims, Some("instance")),
        [b'm', place, removed, inserted @ ..] => {
            let [configured, instance] = &AUTH.tokens;
            for valid in [
                configured,
                instance,
                &AUTH.session.session,
                &AUTH.session.ticket,
            ] {
                let place = usize::from(*place) * 2 % valid.len();
                let end = valid.len().min(place + usize::from(*removed));
                let inserted = String::from_utf8_lossy(inserted);
                let changed = [&valid[..place], &inserted, &valid[end..]].concat();
                if changed != *valid {
                    assert_rejected(&changed);
                }
            }
        }
        _ => {
            let text = String::from_utf8_lossy(bytes);
            assert_rejected(&text);
        }
    }
}

fn assert_rejected(text: &str) {
    assert!(AUTH.keyring.verify(text).is_err());
    assert!(!opens_session(text));
}

/// Whether a session has this value, as a request presents it with the session's cookie.
fn opens_session(text: &str) -> bool {
    let credentials = [
        SessionCredential::Session(text),
        SessionCredential::Ticket(text),
    ];
    credentials.into_iter().any(|credential| {
        let cookies = [AUTH.session.cookie.as_str()].into_iter();
        AUTH.sessions.verify(credential, cookies).is_ok()
    })
}

/// With a valid signature, the claims decide.
fn check_signed(claims: &[u8], key_id: Option<&str>) {
    let Ok(claims) = serde_json::from_slice::<Value>(claims) else {
        return;
    };
    let header = Header {
        kid: key_id.map(str::to_owned),
        ..Header::new(Algorithm::HS256)
    };
    let key = if key_id.is_some() {
        INSTANCE
    } else {
        CONFIGURED
    };
    // Creating the keys installs the crypto provider.
    let auth = &*AUTH;
    let key = EncodingKey::from_secret(key.as_bytes());
    let token = jsonwebtoken::encode(&header, &claims, &key).unwrap();
    let now = Timestamp::now().as_duration().as_secs_f64();
    let verified = auth.keyring.verify(&token);
    assert!(!opens_session(&token));
    if verified.is_ok() {
        assert!(claims["exp"].as_f64().unwrap() >= now - LEEWAY);
        assert!(claims["nbf"].as_f64().is_none_or(|nbf| nbf <= now + LEEWAY));
    }
    if let Ok(verified) = verified {
        assert_eq!(claims["sub"].as_str(), Some(verified.subject.as_str()));
        assert!(!verified.subject.is_empty());
        assert_eq!(claims["jti"].as_str(), verified.token_id.as_deref());
        let expected = &*identity().token_audience();
        let audience = match &claims["aud"] {
            Value::Array(all) => all.iter().any(|one| one == expected),
            one => one == expected,
        };
        assert!(audience);
        let words: Vec<_> = claims["scope"].as_str().unwrap().split(' ').collect();
        for scope in Scope::ALL {
            assert_eq!(
                verified.scopes.contains(scope),
                words.contains(&scope.as_str())
            );
        }
    }
}

//! Tokens made by hand, because a library makes no wrong ones.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

/// What a daemon of these tests signs with: its `JWT_SECRET_KEY`.
pub const SECRET: &str = "a secret of the tests, forty bytes long.";

/// The header of a token that counts.
pub const HEADER: &str = r#"{"typ":"JWT","alg":"HS256"}"#;

/// The claims of a token that counts for an hour.
pub fn claims(scope: &str) -> Value {
    json!({
        "sub": "me",
        "aud": "fullon-admin",
        "scope": scope,
        "exp": jiff::Timestamp::now().as_second() + 3600,
    })
}

/// One part of a token.
pub fn encode_part(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Both parts as they are signed.
pub fn signing_input(header: impl AsRef<[u8]>, claims: impl AsRef<[u8]>) -> String {
    format!("{}.{}", encode_part(header), encode_part(claims))
}

pub fn hs256(key: impl AsRef<[u8]>, message: &str) -> Vec<u8> {
    let mac = Hmac::<Sha256>::new_from_slice(key.as_ref()).unwrap();
    let signature = mac.chain_update(message).finalize();
    signature.into_bytes().to_vec()
}

/// A token of these parts, whatever they are, with a signature that is right.
pub fn sign(key: impl AsRef<[u8]>, header: impl AsRef<[u8]>, claims: impl AsRef<[u8]>) -> String {
    let message = signing_input(header, claims);
    let signature = encode_part(hs256(key, &message));
    format!("{message}.{signature}")
}

/// A token of the configured key with this scope, which may be any text.
pub fn token(scope: &str) -> String {
    sign(SECRET, HEADER, claims(scope).to_string())
}

/// What the token in this head of a request allows.
pub fn scope_of_request(head: &str) -> String {
    let (_, token) = head.split_once("Bearer ").unwrap();
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap());
    let claims: Value = serde_json::from_slice(&claims.unwrap()).unwrap();
    claims["scope"].as_str().unwrap().to_owned()
}

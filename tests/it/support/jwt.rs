//! Hand-made tokens, because a library makes no invalid ones.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

/// `JWT_SECRET_KEY` of the daemons of these tests.
pub const SECRET: &str = "a secret of the tests, forty bytes long.";

/// Another `JWT_SECRET_KEY`.
pub fn made_up_secret(name: &str) -> String {
    format!("an obviously made-up secret, the {name} one")
}

/// The header of a valid token.
pub const HEADER: &str = r#"{"typ":"JWT","alg":"HS256"}"#;

/// The claims of a token that is valid for an hour.
pub fn claims(scope: &str) -> Value {
    json!({
        "sub": "me",
        "aud": "fullon-admin",
        "scope": scope,
        "exp": jiff::Timestamp::now().as_second() + 3600,
    })
}

/// Encodes one part of a token.
pub fn encode_part(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The JWS signing input of both parts (RFC 7515, section 2).
pub fn signing_input(header: impl AsRef<[u8]>, claims: impl AsRef<[u8]>) -> String {
    format!("{}.{}", encode_part(header), encode_part(claims))
}

pub fn hs256(key: impl AsRef<[u8]>, message: &str) -> Vec<u8> {
    let mac = Hmac::<Sha256>::new_from_slice(key.as_ref()).unwrap();
    let signature = mac.chain_update(message).finalize();
    signature.into_bytes().to_vec()
}

/// A correctly signed token of any parts.
pub fn sign(key: impl AsRef<[u8]>, header: impl AsRef<[u8]>, claims: impl AsRef<[u8]>) -> String {
    let message = signing_input(header, claims);
    let signature = encode_part(hs256(key, &message));
    format!("{message}.{signature}")
}

/// A token with this scope, which may be any text, signed with [`SECRET`].
pub fn token(scope: &str) -> String {
    sign(SECRET, HEADER, claims(scope).to_string())
}

/// The claims of a token.
pub fn claims_of(token: &str) -> Value {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap());
    serde_json::from_slice(&claims.unwrap()).unwrap()
}

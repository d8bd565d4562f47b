//! Both sides of a connection prove that they have the same signing key, before the client sends a
//! token. A client with `--admin-url` does not know who listens at the address.
//!
//! The client sends a nonce and the request that it is going to make, and a MAC of both. The daemon
//! answers with its own MAC of both. The client's comes first, so that nobody can have the daemon
//! compute one. The two differ, so that neither can be sent back as the other.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;

use super::key::{KeyError, random_bytes};
use crate::config::Secret;

/// Length of a nonce in bytes.
const NONCE: usize = 32;

/// Computes proofs with a key that is derived from a signing key, so that no proof is a signature.
#[derive(Clone)]
pub struct ProofKey(hmac::Key);

/// The side that proves its knowledge of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProofSide {
    Client,
    Daemon,
}

/// The MAC does not belong to this key, side, nonce and request.
#[derive(Debug, PartialEq, Eq)]
pub struct InvalidProof;

impl ProofKey {
    pub(super) fn new(key: &Secret) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose().as_bytes());
        let derived = hmac::sign(&key, b"fullon proof 1");
        Self(hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()))
    }

    /// Proves that this side has the key.
    #[must_use]
    pub fn prove(&self, side: ProofSide, nonce: &str, request: &str) -> String {
        let mac = hmac::sign(&self.0, message(side, nonce, request).as_bytes());
        URL_SAFE_NO_PAD.encode(mac)
    }

    /// Checks the proof of the other side, in constant time.
    ///
    /// # Errors
    ///
    /// The proof is not valid.
    pub fn verify(
        &self,
        side: ProofSide,
        nonce: &str,
        request: &str,
        mac: &str,
    ) -> Result<(), InvalidProof> {
        let mac = URL_SAFE_NO_PAD.decode(mac).map_err(|_| InvalidProof)?;
        let message = message(side, nonce, request);
        hmac::verify(&self.0, message.as_bytes(), &mac).map_err(|_| InvalidProof)
    }
}

/// The parts are separated by a character that neither a nonce nor a request line contains.
fn message(side: ProofSide, nonce: &str, request: &str) -> String {
    let side = match side {
        ProofSide::Client => "client",
        ProofSide::Daemon => "daemon",
    };
    format!("{side}\n{nonce}\n{request}")
}

/// Generates a nonce: 32 random bytes as base64url.
///
/// # Errors
///
/// The system gave no random bytes.
pub fn generate_nonce() -> Result<String, KeyError> {
    Ok(URL_SAFE_NO_PAD.encode(random_bytes()?))
}

/// Whether the text can be a nonce.
#[must_use]
pub fn is_nonce(text: &str) -> bool {
    URL_SAFE_NO_PAD
        .decode(text)
        .is_ok_and(|bytes| bytes.len() == NONCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proof_is_bound_to_key_side_nonce_and_request() {
        let key = |text: &str| ProofKey::new(&Secret::new(text.repeat(32)));
        let nonce = generate_nonce().unwrap();
        assert!(is_nonce(&nonce) && !is_nonce(&nonce[1..]) && !is_nonce("\n"));
        let request = "GET /admin/status";
        let mac = key("k").prove(ProofSide::Client, &nonce, request);
        let verify = |letter, side, nonce: &str, request: &str| {
            key(letter).verify(side, nonce, request, &mac)
        };
        assert_eq!(verify("k", ProofSide::Client, &nonce, request), Ok(()));
        let other = generate_nonce().unwrap();
        for invalid in [
            verify("x", ProofSide::Client, &nonce, request),
            verify("k", ProofSide::Daemon, &nonce, request),
            verify("k", ProofSide::Client, &other, request),
            verify("k", ProofSide::Client, &nonce, "POST /admin/stop"),
        ] {
            assert_eq!(invalid, Err(InvalidProof));
        }
    }
}

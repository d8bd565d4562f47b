//! The proof that client and daemon have the same signing key.

use poem_openapi::Object;
use serde::{Deserialize, Serialize};

/// The client's proof. It comes first.
#[derive(Debug, Clone, Object, Serialize, Deserialize)]
#[oai(deny_unknown_fields)]
#[serde(deny_unknown_fields)]
pub struct ProofRequest {
    /// 32 random bytes in base64url.
    pub nonce: String,
    /// Method and path of the request that the client is going to make.
    pub req: String,
    /// The client's MAC of both, in base64url.
    pub mac: String,
}

/// The daemon's proof.
#[derive(Debug, Clone, Object, Serialize, Deserialize)]
pub struct ProofResult {
    /// The daemon's MAC of the same nonce and request, in base64url.
    pub mac: String,
}

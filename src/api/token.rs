//! Revocation of tokens.

use poem_openapi::Object;
use serde::{Deserialize, Serialize};

use crate::auth::{Revocation, RevokeError};

/// Which tokens to revoke: exactly one of the fields is set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Object, Serialize, Deserialize)]
#[oai(deny_unknown_fields)]
#[serde(deny_unknown_fields)]
pub struct RevokeRequest {
    /// The token itself.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub token: Option<String>,
    /// The `jti` of the token, which the audit trail names as `token_id`: 1 to 256 visible ASCII
    /// characters. The revocation lasts 366 days, whatever key has signed the token. Whether there
    /// is a token with this id is unknown.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub jti: Option<String>,
    /// `true` revokes every token of the signing key that was issued until now, and ends every
    /// session. If the program has generated the key, it generates another one, and every daemon of
    /// the user refuses the old one. Otherwise a token without `iat` stays revoked. Daemons with
    /// another key are not affected.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub all: Option<bool>,
}

impl TryFrom<&RevokeRequest> for Revocation {
    type Error = RevokeError;

    fn try_from(request: &RevokeRequest) -> Result<Self, RevokeError> {
        Self::new(
            request.token.as_deref(),
            request.jti.as_deref(),
            request.all,
        )
    }
}

/// The tokens are revoked, also for later processes.
#[derive(Debug, Clone, PartialEq, Eq, Object, Serialize, Deserialize)]
pub struct RevokeResult {
    /// How many browser sessions ended. Absent when no daemon runs: then they end unseen.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sessions_ended: Option<u64>,
    /// `replaced`: there is a new signing key. `unchanged`: it is the same; with `all`, because
    /// `JWT_SECRET_KEY` sets it: change that setting if the key itself may be known to others.
    pub signing_key: String,
}

impl RevokeResult {
    /// There is a new signing key.
    pub const REPLACED: &str = "replaced";
    /// The signing key is the same.
    pub const UNCHANGED: &str = "unchanged";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_names_exactly_one() {
        let request = |text: &str| serde_json::from_str::<RevokeRequest>(text).unwrap();
        for text in [
            "{}",
            r#"{"all":false}"#,
            r#"{"all":true,"jti":"a"}"#,
            r#"{"jti":"a","token":"a"}"#,
        ] {
            let refused = Revocation::try_from(&request(text));
            assert!(matches!(refused, Err(RevokeError::NotOne)), "{text}");
        }
        let all = Revocation::try_from(&request(r#"{"all":true}"#));
        assert_eq!(all.unwrap(), Revocation::All);
        let empty = Revocation::try_from(&request(r#"{"jti":""}"#));
        assert!(matches!(empty, Err(RevokeError::InvalidId)));
    }
}

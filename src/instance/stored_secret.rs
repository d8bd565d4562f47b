//! The serialized form of a secret.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::config::Secret;

/// A secret that one process passes to another, in the state file or the handoff. [`Secret`] itself
/// has no serialized form, so that it cannot get into an answer or a log by accident.
#[derive(Debug, Clone)]
pub struct StoredSecret(Secret);

impl StoredSecret {
    /// Wraps a secret.
    #[must_use]
    pub fn new(secret: Secret) -> Self {
        Self(secret)
    }

    /// The secret, to sign or verify with.
    #[must_use]
    pub fn to_secret(&self) -> Secret {
        self.0.clone()
    }
}

impl Serialize for StoredSecret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.expose())
    }
}

impl<'de> Deserialize<'de> for StoredSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Secret::new(text)))
    }
}

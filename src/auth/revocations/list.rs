//! The content of the file of revoked tokens.

use std::collections::{HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::auth::digest::ValueDigest;

/// Limit on revoked tokens.
pub(super) const MAX_REVOKED: usize = 10_000;
/// Limit on revoked ids, which need no token. So there is always room for tokens.
pub(super) const MAX_IDS: usize = 9_000;
/// The longest id.
pub(super) const MAX_ID_LEN: usize = 256;
/// Limit on keys with a limit of their own.
const MAX_LIMITS: usize = 100;
/// Limit on revoked keys. Once it is reached, a process whose key is not listed asks the key file.
pub(super) const MAX_KEYS: usize = 10_000;
/// How long a revocation outlasts its token, because the clock may be set back.
const MARGIN: SignedDuration = SignedDuration::from_hours(24);

/// The content of the file. The names of the fields are part of its format.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct RevokedList {
    /// Tokens of every key that were issued before this time are revoked, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    not_before: Option<i64>,
    /// The same for the tokens of one key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    limits: Vec<KeyLimit>,
    #[serde(default)]
    pub tokens: Vec<Entry>,
    /// Ids of keys whose tokens are revoked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    keys: Vec<ValueDigest>,
}

/// A limit of the list is reached.
#[derive(Debug)]
pub(super) enum NoRoom {
    ForTokens,
    ForIds,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct KeyLimit {
    key: ValueDigest,
    not_before: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<ValueDigest>,
    /// When the token expires.
    pub exp: Timestamp,
    /// When the token was issued, in seconds, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iat: Option<i64>,
    /// Whether the token is for the instance key.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub instance: bool,
    /// The configured key that has signed the token. Any key may have signed those with an id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<ValueDigest>,
}

impl RevokedList {
    /// Adds a token. No other is dropped for it unless it has expired.
    pub fn add(&mut self, entry: &Entry, now: Timestamp) -> Result<(), NoRoom> {
        let is_same = |other: &Entry| (&other.jti, other.digest) == (&entry.jti, entry.digest);
        if let Some(known) = self.tokens.iter_mut().find(|other| is_same(other)) {
            known.exp = known.exp.max(entry.exp);
            if known.key != entry.key {
                known.key = None;
            }
            return Ok(());
        }
        if self.check_room(entry).is_err() {
            // Not earlier: the clock may have been ahead.
            let is_over =
                |other: &Entry| other.exp.saturating_add(MARGIN).is_ok_and(|end| end <= now);
            self.tokens.retain(|other| !is_over(other));
        }
        self.check_room(entry)?;
        self.tokens.push(entry.clone());
        Ok(())
    }

    fn check_room(&self, entry: &Entry) -> Result<(), NoRoom> {
        let ids = || self.tokens.iter().filter(|other| other.jti.is_some());
        if self.tokens.len() >= MAX_REVOKED {
            return Err(NoRoom::ForTokens);
        }
        if entry.jti.is_some() && ids().count() >= MAX_IDS {
            return Err(NoRoom::ForIds);
        }
        Ok(())
    }

    /// Revokes the tokens of a key that were issued until now.
    pub fn limit_key(&mut self, key: ValueDigest, now: Timestamp) {
        let limit = now.as_second() + 1;
        if let Some(known) = self.limits.iter_mut().find(|known| known.key == key) {
            // The clock may have been set back.
            known.not_before = known.not_before.max(limit);
            return;
        }
        if self.limits.len() >= MAX_LIMITS {
            self.limit_all_keys(now);
        }
        let not_before = limit;
        self.limits.push(KeyLimit { key, not_before });
    }

    /// Revokes the tokens of every key that were issued until now. All else that is revoked need
    /// not be known any more.
    pub fn limit_all_keys(&mut self, now: Timestamp) {
        let known = self.limits.drain(..).map(|known| known.not_before);
        self.not_before = known
            .chain(self.not_before)
            .chain([now.as_second() + 1])
            .max();
    }

    /// Revokes all tokens of a key.
    pub fn end_key(&mut self, key: ValueDigest) {
        if !self.keys.contains(&key) {
            self.keys.push(key);
        }
        self.keys.drain(..self.keys.len().saturating_sub(MAX_KEYS));
    }

    pub fn has_ended(&self, key: ValueDigest) -> bool {
        self.keys.contains(&key)
    }

    /// Drops the tokens that are refused without their entries: those of an ended key, and those
    /// that were issued before the limit of their key. An id may be that of a token that another key
    /// has signed, or that was issued ahead of the clock.
    pub fn drop_covered(&mut self) {
        let mut tokens = std::mem::take(&mut self.tokens);
        tokens.retain(|entry| {
            let is_ended = entry.key.is_some_and(|key| self.has_ended(key));
            let limit = self.valid_from(entry.key.as_slice());
            let is_limited =
                limit.is_some_and(|limit| entry.iat.is_none_or(|issued| issued < limit));
            entry.jti.is_some() || entry.instance || !(is_ended || is_limited)
        });
        self.tokens = tokens;
    }

    /// From when on tokens of these keys are valid, or of a new one if there are none. In seconds.
    pub fn valid_from(&self, keys: &[ValueDigest]) -> Option<i64> {
        let limited = self.limits.iter().filter(|known| keys.contains(&known.key));
        let limits = limited.map(|known| known.not_before);
        limits.chain(self.not_before).max()
    }
}

/// The list as verifications use it.
#[derive(Default)]
pub(super) struct Index {
    not_before: Option<i64>,
    limits: HashMap<ValueDigest, i64>,
    pub ids: HashSet<String>,
    pub digests: HashSet<ValueDigest>,
    pub keys: HashSet<ValueDigest>,
}

impl Index {
    /// From when on tokens of this key are valid, in seconds.
    pub fn limit(&self, key: Option<ValueDigest>) -> Option<i64> {
        let of_key = key.and_then(|key| self.limits.get(&key).copied());
        of_key.max(self.not_before)
    }
}

impl From<RevokedList> for Index {
    fn from(list: RevokedList) -> Self {
        let limits = list.limits.into_iter();
        let mut index = Self {
            not_before: list.not_before,
            limits: limits.map(|limit| (limit.key, limit.not_before)).collect(),
            keys: list.keys.into_iter().collect(),
            ..Self::default()
        };
        for entry in list.tokens {
            index.ids.extend(entry.jti);
            index.digests.extend(entry.digest);
        }
        index
    }
}

//! A record: one JSON object in one line, which ends with the hash of everything before it.

use std::str::FromStr;

use memchr::memmem;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

use super::event::{Event, Outcome};
use crate::sys::hex;

/// The version of the format.
pub(super) const VERSION: u8 = 1;
/// Digits of a hash.
const HASH_LEN: usize = 64;
const HASH_KEY: &str = ",\"hash\":\"";
const LINE_END: &str = "\"}";

/// A record of the audit trail.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Version of the format.
    pub v: u8,
    /// 1 for the first record, and one more for each that follows.
    pub seq: u64,
    /// RFC 3339, in UTC.
    pub time: String,
    /// The requested change.
    pub event: String,
    pub outcome: Outcome,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_request_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub detail: Map<String, Value>,
    /// UUID of the daemon's process.
    pub instance: String,
    pub pid: u32,
    /// A random number in the first record, so that no two trails are alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<String>,
    /// Bytes that an interrupted writer left before this record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub torn: Option<Torn>,
    /// The hash of the record before, or zeros.
    pub prev: String,
    /// SHA-256 of the line up to `,"hash"`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hash: String,
}

/// Bytes between two records that are no record: a writer was killed, or the disk was full.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Torn {
    pub bytes: u64,
    pub sha256: String,
}

impl Torn {
    /// Describes these bytes; `None` if there are none.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        (!bytes.is_empty()).then(|| Self {
            bytes: bytes.len() as u64,
            sha256: sha256(bytes),
        })
    }
}

/// Sequence number and hash of the last record. Who keeps them can tell later whether records at
/// the end are missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    pub seq: u64,
    pub hash: String,
}

/// The text is not `SEQ:HASH`.
#[derive(Debug, Error)]
#[error(
    "expected SEQ:HASH, such as 12:9f86…: the number of a record, and its hash of 64 hexadecimal digits"
)]
pub struct ParseHeadError;

impl Head {
    /// The head of an empty trail.
    pub(super) fn empty() -> Self {
        Self {
            seq: 0,
            hash: "0".repeat(HASH_LEN),
        }
    }
}

impl FromStr for Head {
    type Err = ParseHeadError;

    fn from_str(text: &str) -> Result<Self, ParseHeadError> {
        let (seq, hash) = text.split_once(':').ok_or(ParseHeadError)?;
        let seq = seq.parse().map_err(|_| ParseHeadError)?;
        let hash = hash.to_ascii_lowercase();
        if is_hash(&hash) {
            Ok(Self { seq, hash })
        } else {
            Err(ParseHeadError)
        }
    }
}

impl Record {
    /// The record of an event that follows `previous`.
    pub(super) fn new(
        mut event: Event,
        instance: &str,
        previous: &Head,
        torn: Option<Torn>,
    ) -> Self {
        event.shorten();
        let is_first = previous.seq == 0;
        Self {
            v: VERSION,
            seq: previous.seq + 1,
            time: event.time.to_string(),
            event: event.action,
            outcome: event.outcome,
            subject: event.subject,
            token_id: event.token_id,
            session_id: event.session_id,
            peer: event.peer,
            client: event.client,
            request_id: event.request_id,
            client_request_id: event.client_request_id,
            status: event.status,
            reason: event.reason.filter(|reason| !reason.is_empty()),
            detail: event.detail,
            instance: instance.to_owned(),
            pid: std::process::id(),
            chain: is_first.then(|| uuid::Uuid::new_v4().simple().to_string()),
            torn,
            prev: previous.hash.clone(),
            hash: String::new(),
        }
    }

    /// Appends the line of this record, and returns its place in the chain.
    pub(super) fn write_line(mut self, lines: &mut Vec<u8>) -> serde_json::Result<Head> {
        self.hash.clear();
        let mut body = serde_json::to_vec(&self)?;
        // The hash comes last in the object.
        body.pop();
        let hash = sha256(&body);
        lines.extend(body);
        lines.extend(HASH_KEY.as_bytes());
        lines.extend(hash.as_bytes());
        lines.extend(LINE_END.as_bytes());
        lines.push(b'\n');
        Ok(Head {
            seq: self.seq,
            hash,
        })
    }

    /// Parses a line without its newline; `None` if it is no whole record. The hash is not checked.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let (_, hash) = split_hash(line)?;
        let record: Self = serde_json::from_slice(line).ok()?;
        // Another record has to be able to follow.
        (record.hash == hash && record.seq < u64::MAX).then_some(record)
    }

    /// Whether the hash at the end of this line is that of the bytes before it.
    pub(super) fn has_valid_hash(line: &[u8]) -> bool {
        split_hash(line).is_some_and(|(body, hash)| sha256(body) == hash)
    }

    /// Whether there is the end of a whole record in these bytes.
    pub(super) fn is_ended_in(bytes: &[u8]) -> bool {
        let mut keys = memmem::find_iter(bytes, HASH_KEY);
        keys.any(|at| {
            let end = at + HASH_KEY.len() + HASH_LEN + LINE_END.len();
            bytes
                .get(..end)
                .is_some_and(|line| split_hash(line).is_some())
        })
    }

    pub(super) fn head(&self) -> Head {
        Head {
            seq: self.seq,
            hash: self.hash.clone(),
        }
    }

    /// How every record with this number begins.
    pub(super) fn line_start(seq: u64) -> String {
        format!("{{\"v\":{VERSION},\"seq\":{seq},")
    }
}

/// Splits a line into the bytes that are hashed, and the hash.
fn split_hash(line: &[u8]) -> Option<(&[u8], &str)> {
    let tail_len = HASH_KEY.len() + HASH_LEN + LINE_END.len();
    let (body, tail) = line.split_at_checked(line.len().checked_sub(tail_len)?)?;
    let tail = std::str::from_utf8(tail).ok()?;
    let hash = tail.strip_prefix(HASH_KEY)?.strip_suffix(LINE_END)?;
    is_hash(hash).then_some((body, hash))
}

fn is_hash(text: &str) -> bool {
    text.len() == HASH_LEN && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// SHA-256 in hexadecimal digits.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex(digest(&SHA256, bytes).as_ref())
}

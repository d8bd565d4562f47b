//! Records of the audit trail.

use poem_openapi::Object;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::audit::{Record, Torn};

/// The largest number of records in a page.
pub const MAX_AUDIT_RECORDS: u32 = 1_000;

/// A record of the audit trail: a requested change, and what became of it. It has the fields of the
/// line in the file, in their order.
#[derive(Debug, Clone, PartialEq, Object, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Version of the format: 1.
    pub v: u32,
    /// Number of the record: 1 for the first, and one more for each that follows.
    pub seq: u64,
    /// Time of the event, as an RFC 3339 timestamp in UTC.
    pub time: String,
    /// The requested change, such as `stop`; `unauthenticated` for the requests of a minute without
    /// a valid token; `gap` for events that could not be written; `exposed_secret` for a file with a
    /// secret that all users can read.
    pub event: String,
    /// `accepted`, `refused`, or `failed` after it was accepted.
    pub outcome: String,
    /// The caller: the subject of the token, or the name of a signal.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub subject: Option<String>,
    /// Id (`jti`) of the caller's token. For a browser session, of the token that signed in.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub token_id: Option<String>,
    /// Id of the caller's browser session. For `sign_in`, of the session that began. The session that
    /// `end_session` ended is in `detail`.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session_id: Option<String>,
    /// Address and port of the client, or of the proxy in front of it.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub peer: Option<String>,
    /// Address of the client, according to a proxy in `TRUSTED_PROXIES`.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub client: Option<String>,
    /// Id that the daemon gave the request.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub request_id: Option<String>,
    /// The `X-Request-Id` that the client sent.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub client_request_id: Option<String>,
    /// Status of the response to a change that was refused or failed.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub status: Option<u16>,
    /// Why the change was refused or failed.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// Parameters of the change: an object, in the order of the line.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub detail: Option<Value>,
    /// UUID of the daemon's process.
    pub instance: String,
    /// Process ID of the daemon.
    pub pid: u32,
    /// Random number of the trail, in the first record only.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub chain: Option<String>,
    /// The bytes that an interrupted writer left before this record.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub torn: Option<AuditTornLine>,
    /// Hash of the record before; zeros in the first one.
    pub prev: String,
    /// SHA-256 of the line in the file up to `,"hash"`.
    pub hash: String,
}

/// Bytes between two records that are no record.
#[derive(Debug, Clone, PartialEq, Eq, Object, Serialize, Deserialize)]
pub struct AuditTornLine {
    /// Number of the bytes.
    pub bytes: u64,
    /// SHA-256 of the bytes.
    pub sha256: String,
}

/// A page of the audit trail.
#[derive(Debug, Clone, Object, Serialize, Deserialize)]
pub struct AuditPage {
    /// Records of the audit trail, oldest first.
    pub records: Vec<AuditEntry>,
}

/// The end of the audit trail.
#[derive(Debug, Clone, PartialEq, Eq, Object, Serialize, Deserialize)]
pub struct AuditState {
    /// Path of the audit file.
    pub file: String,
    /// Number of the last record; 0 when there is none.
    pub seq: u64,
    /// Hash of the last record. Keep number and hash elsewhere: `fullon audit --verify --head
    /// SEQ:HASH` compares later, and finds records that are missing at the end.
    pub hash: String,
    /// The error that keeps records from being written. Absent when they are written.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
}

impl From<Record> for AuditEntry {
    fn from(record: Record) -> Self {
        Self {
            v: record.v.into(),
            seq: record.seq,
            time: record.time,
            event: record.event,
            outcome: record.outcome.as_str().to_owned(),
            subject: record.subject,
            token_id: record.token_id,
            session_id: record.session_id,
            peer: record.peer,
            client: record.client,
            request_id: record.request_id,
            client_request_id: record.client_request_id,
            status: record.status,
            reason: record.reason,
            detail: (!record.detail.is_empty()).then(|| Value::Object(record.detail)),
            instance: record.instance,
            pid: record.pid,
            chain: record.chain,
            torn: record.torn.map(AuditTornLine::from),
            prev: record.prev,
            hash: record.hash,
        }
    }
}

impl From<Torn> for AuditTornLine {
    fn from(torn: Torn) -> Self {
        Self {
            bytes: torn.bytes,
            sha256: torn.sha256,
        }
    }
}

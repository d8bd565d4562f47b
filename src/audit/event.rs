//! The events of the audit trail.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The longest text in a record, in bytes. A longer one is cut.
const MAX_TEXT_LEN: usize = 1024;

/// The outcome of a requested change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It is carried out.
    Accepted,
    /// It is not carried out.
    Refused,
    /// It was accepted, and failed.
    Failed,
}

impl Outcome {
    /// The name in records and log lines.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// A requested change, and what became of it.
#[derive(Debug, Clone)]
pub struct Event {
    /// When it happened.
    pub time: Timestamp,
    /// The requested change, such as `stop`.
    pub action: String,
    pub outcome: Outcome,
    /// The subject of the token or session, if the caller was authenticated.
    pub subject: Option<String>,
    /// The token of the caller, or the one that its session was created from.
    pub token_id: Option<String>,
    /// The session of the caller, also the one that begins when it signs in.
    pub session_id: Option<String>,
    /// Address and port of the other end of the connection.
    pub peer: Option<String>,
    /// Address of the client, according to a trusted proxy.
    pub client: Option<String>,
    pub request_id: Option<String>,
    /// The request id that the client sent.
    pub client_request_id: Option<String>,
    /// HTTP status of the response.
    pub status: Option<u16>,
    /// Why the change was refused, or failed.
    pub reason: Option<String>,
    /// Parameters of the change.
    pub detail: Map<String, Value>,
}

impl Event {
    /// An event of now, without a caller.
    #[must_use]
    pub fn new(action: &str, outcome: Outcome) -> Self {
        Self {
            time: Timestamp::now(),
            action: action.to_owned(),
            outcome,
            subject: None,
            token_id: None,
            session_id: None,
            peer: None,
            client: None,
            request_id: None,
            client_request_id: None,
            status: None,
            reason: None,
            detail: Map::new(),
        }
    }

    /// Cuts long texts, so that a client cannot fill the file with one request.
    pub(super) fn shorten(&mut self) {
        let texts = [
            &mut self.subject,
            &mut self.token_id,
            &mut self.session_id,
            &mut self.client_request_id,
            &mut self.reason,
        ];
        for text in texts.into_iter().flatten() {
            shorten(text);
        }
        for value in self.detail.values_mut() {
            if let Value::String(text) = value {
                shorten(text);
            }
        }
    }
}

fn shorten(text: &mut String) {
    if text.len() > MAX_TEXT_LEN {
        let len = text.len();
        text.truncate(text.floor_char_boundary(MAX_TEXT_LEN));
        text.push_str("… (");
        text.push_str(&len.to_string());
        text.push_str(" bytes)");
    }
}

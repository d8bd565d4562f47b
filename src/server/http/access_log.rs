//! One log event and one count in the metrics for each request.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use hyper::Method;
use hyper::header::HeaderValue;
use poem::http::StatusCode;
use uuid::Uuid;

use super::audit::AuditRecord;
use crate::auth::without_tokens;
use crate::server::metrics::RequestSeries;
use crate::server::shutdown::Shutdown;

/// The path of health checks. They and those below it are logged at DEBUG.
pub const HEALTH_PATH: &str = "/health";
/// The status that nginx logs if a client closes the connection before there is a response.
const CLIENT_CLOSED_REQUEST: u16 = 499;
/// Stands for the method and the path of input that is no valid request.
const NO_REQUEST: &str = "-";
/// A longer method or path is truncated, in bytes. Otherwise anybody could fill the log, and rotate
/// older lines away.
const MAX_LOGGED_LEN: usize = 1024;

/// The properties of a request that are known when it starts.
pub struct AccessRecord<'a> {
    pub server: &'static str,
    pub series: &'a RequestSeries,
    pub request_id: HeaderValue,
    /// The id that the client sent.
    pub client_request_id: Option<HeaderValue>,
    pub started: Instant,
    /// The other end of the connection.
    pub peer: SocketAddr,
    /// The client, according to a trusted proxy.
    pub client: Option<IpAddr>,
    /// The browser session of a request to the admin port.
    pub session: Option<UsedSession>,
}

/// The browser session of a request, once it is verified. It is attached to admin requests.
#[derive(Debug, Clone, Default)]
pub struct UsedSession(Arc<OnceLock<Uuid>>);

impl UsedSession {
    pub fn set(&self, id: Uuid) {
        let _ = self.0.set(id);
    }
}

impl AccessRecord<'_> {
    /// Counts and logs a request. Health checks are logged at DEBUG, others at INFO. The query is
    /// left out, because it may hold a secret. A token that somebody put into the path is left out,
    /// too.
    pub fn record(&self, method: &str, path: &str, status: u16) {
        let duration = self.started.elapsed();
        self.series.observe(status, duration);
        let session_id = self.session.as_ref().and_then(|session| session.0.get());
        let session_id = session_id.map(Uuid::to_string);
        let (method, path) = (truncate_for_log(method), truncate_for_log(path));
        let (method, path) = (without_tokens(&method), without_tokens(&path));
        macro_rules! event {
            ($level:ident) => {
                tracing::$level!(
                    target: "access",
                    server = self.server,
                    %method,
                    path = &*path,
                    status,
                    duration_us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX),
                    peer = %self.peer,
                    client = self.client.as_ref().map(tracing::field::display),
                    request_id = self.request_id.to_str().unwrap_or_default(),
                    client_request_id = self.client_request_id.as_ref().and_then(|id| id.to_str().ok()),
                    session_id = session_id.as_deref(),
                )
            };
        }
        let is_health_check = path
            .strip_prefix(HEALTH_PATH)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if is_health_check {
            event!(debug);
        } else {
            event!(info);
        }
    }

    /// Counts and logs input that is no valid request.
    pub fn record_invalid(&self, status: StatusCode) {
        self.record(NO_REQUEST, NO_REQUEST, status.as_u16());
    }
}

fn truncate_for_log(text: &str) -> Cow<'_, str> {
    if text.len() <= MAX_LOGGED_LEN {
        return text.into();
    }
    let start = &text[..text.floor_char_boundary(MAX_LOGGED_LEN)];
    format!("{start}… ({} bytes)", text.len()).into()
}

/// Records a request when it is dropped: with the status of its response, or as aborted.
pub struct PendingRequest<'a> {
    pub access: &'a AccessRecord<'a>,
    pub shutdown: &'a Shutdown,
    pub audit: Option<&'a AuditRecord>,
    pub method: Method,
    pub path: &'a str,
    /// The status of the response, once there is one.
    pub status: Option<StatusCode>,
}

impl Drop for PendingRequest<'_> {
    fn drop(&mut self) {
        let status = self
            .status
            .map_or_else(|| self.record_abort(), |status| status.as_u16());
        self.access.record(self.method.as_str(), self.path, status);
    }
}

impl PendingRequest<'_> {
    /// There will be no response: the deadline of a stop is over, or the client has disconnected or
    /// is too slow. Returns the status to log.
    fn record_abort(&self) -> u16 {
        let (status, reason) = if self.shutdown.is_forced() {
            let status = StatusCode::SERVICE_UNAVAILABLE.as_u16();
            (
                status,
                "aborted: the timeout of the stop was over before the response began",
            )
        } else {
            (CLIENT_CLOSED_REQUEST, "the client aborted the request")
        };
        if let Some(audit) = self.audit {
            audit.aborted(status, reason);
        }
        status
    }
}

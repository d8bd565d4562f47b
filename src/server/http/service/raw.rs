//! Responses to input that never became a request.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use poem::http::StatusCode;

use super::Service;
use crate::server::http::access_log::AccessRecord;
use crate::server::http::raw_response;
use crate::server::limits::LimitKind;

/// hyper's own limits: fields of the headers, and bytes of the request target.
const MAX_HEADERS: usize = 100;
const MAX_URI: usize = 65_534;

impl Service {
    /// The problem document that replaces hyper's own response to input that is no valid request.
    /// `None` if `response` is one of ours.
    pub(crate) fn replace_hyper_error(&self, response: &[u8], peer: SocketAddr) -> Option<Bytes> {
        let status = raw_response::hyper_error_status(response)?;
        Some(self.raw_error(status, peer))
    }

    /// A whole response to a client that has sent no request, or part of one, or an invalid one.
    pub(crate) fn raw_error(&self, status: StatusCode, peer: SocketAddr) -> Bytes {
        let limits = &self.pool.limits;
        let (limit, detail) = match status {
            StatusCode::REQUEST_TIMEOUT => (
                Some(LimitKind::HeaderTimeout),
                format!(
                    "the request headers did not arrive within {:?} (HEADER_TIMEOUT)",
                    limits.header_timeout
                ),
            ),
            StatusCode::SERVICE_UNAVAILABLE => (
                Some(LimitKind::Refused),
                "connection limit reached, and all connections are busy: try again".into(),
            ),
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => (
                Some(LimitKind::HeaderSize),
                format!(
                    "the request headers are too large: at most {} bytes (MAX_HEADER_SIZE) and {MAX_HEADERS} headers",
                    limits.max_header_size
                ),
            ),
            StatusCode::URI_TOO_LONG => (
                Some(LimitKind::HeaderSize),
                format!("the request URI is too long: at most {MAX_URI} bytes"),
            ),
            _ => (None, "invalid HTTP/1.1 request (RFC 9112)".into()),
        };
        if let Some(limit) = limit {
            self.pool.stats.record_limit_hit(limit);
        }
        let access = AccessRecord {
            server: self.name,
            series: self.routes.unparsed(),
            request_id: self.request_ids.next(),
            client_request_id: None,
            started: Instant::now(),
            peer,
            client: None,
            session: None,
        };
        access.record_invalid(status);
        let id = access.request_id.to_str().unwrap_or_default();
        let retry_after = (status == StatusCode::SERVICE_UNAVAILABLE).then_some(1);
        raw_response::error_response(status, &detail, id, retry_after)
    }
}

//! Limits on connections and requests.

use std::time::Duration;

use super::parse;
use super::validator::Validator;

/// Limits on connections and requests. A reload does not change them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// How long a client may take to send the request headers.
    pub header_timeout: Duration,
    /// How long a client may take to send the request body.
    pub body_timeout: Duration,
    /// How long a connection is kept without a request, or while the client does not read its
    /// response.
    pub idle_timeout: Duration,
    /// Largest request headers, in bytes.
    pub max_header_size: usize,
    /// Largest request body, in bytes.
    pub max_body_size: usize,
    /// Concurrent connections to the public port.
    pub max_connections: u32,
    /// Concurrent connections to the admin port.
    pub admin_max_connections: u32,
    /// Rejected tokens per minute after which a client gets 429.
    pub failed_tokens_per_minute: u32,
}

impl Limits {
    pub(super) fn load(validator: &mut Validator<'_>) -> Option<Self> {
        let header_timeout = validator.value("HEADER_TIMEOUT", parse::client_timeout);
        let body_timeout = validator.value("BODY_TIMEOUT", parse::client_timeout);
        let idle_timeout = validator.value("IDLE_TIMEOUT", parse::client_timeout);
        let max_header_size = validator.value("MAX_HEADER_SIZE", parse::max_header_size);
        let max_body_size = validator.value("MAX_BODY_SIZE", parse::max_body_size);
        let max_connections = validator.value("MAX_CONNECTIONS", parse::count);
        let admin_max_connections = validator.value("ADMIN_MAX_CONNECTIONS", parse::count);
        let failed_tokens_per_minute = validator.value("FAILED_TOKENS_PER_MINUTE", parse::count);
        Some(Self {
            header_timeout: header_timeout?,
            body_timeout: body_timeout?,
            idle_timeout: idle_timeout?,
            max_header_size: max_header_size?,
            max_body_size: max_body_size?,
            max_connections: max_connections?,
            admin_max_connections: admin_max_connections?,
            failed_tokens_per_minute: failed_tokens_per_minute?,
        })
    }
}

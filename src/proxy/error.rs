//! Why a request got no response of the application.

use std::time::Duration;

use hyper::StatusCode;
use thiserror::Error;

/// Why a request got no response of the application. The text is for the client.
#[derive(Debug, Error)]
pub enum ProxyError {
    #[error("no worker of the application was ready within {0:?} (APP_QUEUE_TIMEOUT): try again")]
    NoWorker(Duration),
    #[error("the application sent no valid response: {0}")]
    Broken(String),
    #[error("the application did not respond within {0:?} (APP_TIMEOUT)")]
    TimedOut(Duration),
    /// The client, and not the application, ended the request.
    #[error("the request body did not arrive: {0}")]
    ClientBody(String),
}

/// The class of an error, for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorReason {
    NoWorker,
    Broken,
    TimedOut,
    /// The response broke off after its headers.
    Truncated,
}

impl ErrorReason {
    /// All reasons, in the order of their declaration.
    pub const ALL: [Self; 4] = [
        Self::NoWorker,
        Self::Broken,
        Self::TimedOut,
        Self::Truncated,
    ];

    /// The value of the `reason` label in the metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoWorker => "no_worker",
            Self::Broken => "broken",
            Self::TimedOut => "timeout",
            Self::Truncated => "truncated",
        }
    }
}

impl ProxyError {
    /// The reason, unless it is the client's fault.
    #[must_use]
    pub fn reason(&self) -> Option<ErrorReason> {
        match self {
            Self::NoWorker(_) => Some(ErrorReason::NoWorker),
            Self::Broken(_) => Some(ErrorReason::Broken),
            Self::TimedOut(_) => Some(ErrorReason::TimedOut),
            Self::ClientBody(_) => None,
        }
    }

    /// The status of the response.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NoWorker(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Broken(_) => StatusCode::BAD_GATEWAY,
            Self::TimedOut(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::ClientBody(_) => StatusCode::BAD_REQUEST,
        }
    }
}

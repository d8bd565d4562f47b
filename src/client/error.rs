//! Errors of the client.

use reqwest::{StatusCode, Url};
use thiserror::Error;

use super::listener::UntrustedListener;
use crate::api::Problem;
use crate::auth::{KeyError, SignError, TokenError};

/// A failed call.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The text is not an address with the scheme `http`.
    #[error(
        "`{0}` is not a valid address: use http://HOST:PORT, such as http://127.0.0.1:8001 (https is not supported: use a tunnel)"
    )]
    InvalidAddress(String),
    /// The address of the admin API is unknown.
    #[error("the address of the admin API is unknown: {0}")]
    UnknownAddress(&'static str),
    /// There is no response.
    #[error("the admin API at {base} cannot be reached: {reason}")]
    Unreachable { base: String, reason: String },
    /// The program that listens at the address may not receive a token.
    #[error("no token was sent to the admin API at {base}: {reason}")]
    Untrusted {
        base: String,
        reason: UntrustedListener,
    },
    /// The daemon runs, but its address and key are unknown, because its state file cannot be used.
    #[error("{0}")]
    NoState(String),
    /// 401, 403 or 429: the token is not accepted.
    #[error("the admin API at {base} rejected the token: {}", .problem.detail)]
    TokenRefused { base: String, problem: Box<Problem> },
    /// Another error response.
    #[error("{}", .0.detail)]
    Problem(Box<Problem>),
    /// The response is not from this service.
    #[error("the server at {base} is not the admin API ({detail})")]
    UnexpectedServer { base: String, detail: String },
    /// No process holds the lock of the PID file.
    #[error("the daemon is not running")]
    NotRunning,
    /// There is no key to sign a token.
    #[error("there is no signing key: {0}")]
    NoKey(String),
    /// There are no random bytes for a proof.
    #[error(transparent)]
    NoRandomBytes(#[from] KeyError),
    /// The token could not be signed.
    #[error(transparent)]
    Sign(#[from] SignError),
}

impl ClientError {
    pub(super) fn unreachable(base: &Url, reason: String) -> Self {
        Self::Unreachable {
            base: base.to_string(),
            reason,
        }
    }

    pub(super) fn unexpected_server(base: &Url, detail: String) -> Self {
        Self::UnexpectedServer {
            base: base.to_string(),
            detail,
        }
    }

    /// Whether the daemon is being replaced, was replaced, or stops (409).
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Problem(problem) if problem.status == StatusCode::CONFLICT.as_u16())
    }

    /// Whether the daemon has answered what comes of the request: it is not valid, or it failed. A
    /// daemon that is being replaced, is busy or refuses its own command may do so for long.
    #[must_use]
    pub fn is_decision(&self) -> bool {
        const BUSY: [StatusCode; 4] = [
            StatusCode::CONFLICT,
            StatusCode::REQUEST_TIMEOUT,
            StatusCode::TOO_MANY_REQUESTS,
            StatusCode::SERVICE_UNAVAILABLE,
        ];
        match self {
            Self::Problem(problem) => BUSY.iter().all(|busy| problem.status != busy.as_u16()),
            Self::Unreachable { .. }
            | Self::Untrusted { .. }
            | Self::NoState(_)
            | Self::TokenRefused { .. }
            | Self::UnexpectedServer { .. }
            | Self::NotRunning => false,
            _ => true,
        }
    }

    /// Whether no program that may receive a token has answered: the daemon may not serve its API
    /// any more.
    #[must_use]
    pub fn is_without_answer(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. } | Self::Untrusted { .. } | Self::NoState(_)
        )
    }

    /// Whether the token is not valid at the daemon's time, although it was signed just now, for a
    /// short time. The problem has no code for the reason, only the text of the daemon's error.
    #[must_use]
    pub fn is_clock_difference(&self) -> bool {
        let errors = [
            TokenError::Expired,
            TokenError::ExpiresTooLate,
            TokenError::NotYetValid,
        ];
        matches!(self, Self::TokenRefused { problem, .. }
            if errors.iter().any(|error| problem.detail.starts_with(&error.to_string())))
    }
}

//! Why a probe failed, in words of our own: what a server or the system says may name the host, or repeat what it was sent.

use std::io;
use std::time::Duration;

use thiserror::Error;

/// A probe that failed. The texts are short, and hold no secret, no name and no address.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// It took too long.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// Its name has no address.
    #[error("the name of its host cannot be resolved")]
    UnresolvedHost,
    /// Nobody accepts connections.
    #[error("it cannot be reached: {0}")]
    Unreachable(io::ErrorKind),
    /// The connection ended, or what came made no sense.
    #[error("the connection broke: {0}")]
    ConnectionLost(io::ErrorKind),
    /// The server cannot encrypt.
    #[error("it does not offer TLS, which the settings ask for")]
    TlsUnsupported,
    /// The connection could not be encrypted.
    #[error("TLS: {0}")]
    Tls(&'static str),
    /// It wants a password, and there is none.
    #[error("it wants a password, and {0} is not set")]
    PasswordRequired(&'static str),
    /// It did not let us in.
    #[error("{0}")]
    Rejected(&'static str),
    /// It let us in and does not do what it was asked, for the reason with this code.
    #[error("it answered with the error {0}")]
    ErrorCode(String),
    /// Somebody else listens there.
    #[error("what answers does not speak the protocol of {0}")]
    WrongProtocol(&'static str),
}

impl ProbeError {
    /// Something went wrong on a connection that there was.
    pub fn connection_lost(error: &io::Error) -> Self {
        Self::ConnectionLost(error.kind())
    }

    /// Whether another connection may mend it.
    pub fn is_connection_lost(&self) -> bool {
        matches!(self, Self::ConnectionLost(_))
    }
}

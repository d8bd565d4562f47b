//! Why a probe failed. The messages are fixed: one from the server or the system could name the
//! host, or quote a secret.

use std::io;
use std::time::Duration;

use thiserror::Error;

/// The reason why a probe failed. The messages are short and contain no secrets, names or
/// addresses.
#[derive(Debug, Error)]
pub enum ProbeError {
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("the name of its host cannot be resolved")]
    UnresolvedHost,
    #[error("it cannot be reached: {0}")]
    Unreachable(io::ErrorKind),
    /// The connection was closed, or carried invalid data. A new one may work.
    #[error("the connection broke: {0}")]
    ConnectionLost(io::ErrorKind),
    #[error("it does not offer TLS, which the settings ask for")]
    TlsUnsupported,
    /// The TLS handshake failed.
    #[error("TLS: {0}")]
    Tls(&'static str),
    /// The server requires a password, and this setting is not set.
    #[error("it wants a password, and {0} is not set")]
    PasswordRequired(&'static str),
    /// The server rejected the connection or the command.
    #[error("{0}")]
    Rejected(&'static str),
    /// The server answered with this error code.
    #[error("it answered with the error {0}")]
    ErrorCode(String),
    /// The server does not speak the protocol with this name.
    #[error("what answers does not speak the protocol of {0}")]
    WrongProtocol(&'static str),
}

impl From<io::Error> for ProbeError {
    fn from(error: io::Error) -> Self {
        Self::ConnectionLost(error.kind())
    }
}

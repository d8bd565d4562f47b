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
    #[error("the host name cannot be resolved")]
    UnresolvedHost,
    #[error("cannot connect: {0}")]
    Unreachable(io::ErrorKind),
    /// The connection was closed, or carried invalid data. A new one may work.
    #[error("connection lost: {0}")]
    ConnectionLost(io::ErrorKind),
    #[error("the server does not support TLS, which the settings require")]
    TlsUnsupported,
    /// The TLS handshake failed.
    #[error("TLS: {0}")]
    Tls(&'static str),
    /// The server requires a password, and this setting is not set.
    #[error("the server requires a password, but {0} is not set")]
    PasswordRequired(&'static str),
    /// The server rejected the connection or the command.
    #[error("{0}")]
    Rejected(&'static str),
    /// The server answered with this error code.
    #[error("the server returned the error {0}")]
    ErrorCode(String),
    /// The server does not speak the protocol with this name.
    #[error("the server does not speak the {0} protocol")]
    WrongProtocol(&'static str),
}

impl From<io::Error> for ProbeError {
    fn from(error: io::Error) -> Self {
        Self::ConnectionLost(error.kind())
    }
}

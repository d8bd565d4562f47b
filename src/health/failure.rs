//! Why a probe failed, in words of our own: what a server or the system says may name the host, or repeat what it was sent.

use std::io;
use std::time::Duration;

use thiserror::Error;

/// A probe that failed. The texts are short, and hold no secret, no name and no address.
#[derive(Debug, Error)]
pub enum Failure {
    /// It took too long.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// Its name has no address.
    #[error("the name of its host cannot be resolved")]
    UnknownHost,
    /// Nobody accepts connections.
    #[error("it cannot be reached: {0}")]
    Unreachable(io::ErrorKind),
    /// The connection ended, or what came made no sense.
    #[error("the connection broke: {0}")]
    Broken(io::ErrorKind),
    /// The server cannot encrypt.
    #[error("it does not offer TLS, which the settings ask for")]
    NoTls,
    /// The connection could not be encrypted.
    #[error("TLS: {0}")]
    Tls(&'static str),
    /// It wants a password, and there is none.
    #[error("it wants a password, and {0} is not set")]
    PasswordWanted(&'static str),
    /// It did not let us in.
    #[error("{0}")]
    Refused(&'static str),
    /// It let us in and does not do what it was asked, for the reason with this code.
    #[error("it answered with the error {0}")]
    Code(String),
    /// Somebody else listens there.
    #[error("what answers does not speak the protocol of {0}")]
    Stranger(&'static str),
}

impl Failure {
    /// Something went wrong on a connection that there was.
    pub fn broken(error: &io::Error) -> Self {
        Self::Broken(error.kind())
    }

    /// Whether another connection may mend it.
    pub fn is_of_the_connection(&self) -> bool {
        matches!(self, Self::Broken(_))
    }
}

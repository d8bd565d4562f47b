//! Why a probe failed. The messages are fixed: one from the server or the system could name the
//! host, or quote a secret.

use std::error::Error;
use std::io;
use std::time::Duration;

use thiserror::Error as ThisError;
use tokio_rustls::rustls::{AlertDescription, CertificateError, Error as TlsError};

/// The reason why a probe failed. The messages are short and contain no secrets, names or
/// addresses.
#[derive(Debug, ThisError)]
pub enum ProbeError {
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// There is a connection, but no answer to the first message of TLS.
    #[error("no answer to the TLS handshake within {0:?}: the server may not speak TLS")]
    HandshakeTimeout(Duration),
    #[error("the host name cannot be resolved")]
    UnresolvedHost,
    #[error("cannot connect: {0}")]
    Unreachable(io::ErrorKind),
    /// The connection was closed, or carried invalid data. A new one may work.
    #[error("connection lost: {0}")]
    ConnectionLost(io::ErrorKind),
    /// A new connection without encryption was closed at the first message.
    #[error("the server closed the connection at once: it may expect TLS (set {0})")]
    PlainRefused(&'static str),
    #[error("the server does not support TLS, which the settings require")]
    TlsUnsupported,
    /// The TLS handshake failed, or the server ended the connection for a reason of TLS.
    #[error("TLS: {0}")]
    Tls(&'static str),
    /// The server requires a password, and this setting is not set.
    #[error("the server requires a password, but {0} is not set")]
    PasswordRequired(&'static str),
    /// PostgreSQL has no rule that admits the user from here in this way.
    #[error(
        "the server rejected the user, the client certificate or the kind of connection (see pg_hba.conf)"
    )]
    NotAdmitted,
    /// Redis rejected the password.
    #[error("the server rejected the password")]
    WrongPassword,
    /// Redis refused a command for an unknown reason. For `AUTH` that is a password that is not
    /// needed, or a wrong one before Redis 6.
    #[error("the server rejected the password or the command")]
    CommandRefused,
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

impl ProbeError {
    /// Whether the probe took too long.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout(_) | Self::HandshakeTimeout(_))
    }

    /// Whether nothing answered at the address.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::UnresolvedHost | Self::Unreachable(_))
    }
}

/// A server that refuses the client's certificate says so only after the handshake, so any read or
/// write may fail with an error of TLS.
impl From<&io::Error> for ProbeError {
    fn from(error: &io::Error) -> Self {
        match tls_error(error) {
            Some(source) => Self::Tls(tls_reason(source)),
            None => Self::ConnectionLost(error.kind()),
        }
    }
}

impl From<io::Error> for ProbeError {
    fn from(error: io::Error) -> Self {
        (&error).into()
    }
}

/// The error of TLS in the sources of an error.
fn tls_error(error: &io::Error) -> Option<&TlsError> {
    let mut source = error
        .get_ref()
        .map(|source| source as &(dyn Error + 'static));
    while let Some(error) = source {
        if let Some(found) = error.downcast_ref::<TlsError>() {
            return Some(found);
        }
        source = match error.downcast_ref::<io::Error>() {
            Some(inner) => inner.get_ref().map(|source| source as _),
            None => error.source(),
        };
    }
    None
}

/// The reason in one sentence, without the names in certificates.
fn tls_reason(error: &TlsError) -> &'static str {
    use AlertDescription as Alert;
    use CertificateError as Certificate;
    match error {
        TlsError::InvalidCertificate(certificate) => match certificate {
            Certificate::UnknownIssuer => "the certificate is signed by an unknown authority",
            Certificate::NotValidForNameContext { presented, .. } if presented.is_empty() => {
                "the certificate names no host: it needs a subjectAltName, a common name is not enough"
            }
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => {
                "the certificate is for another host name"
            }
            Certificate::Expired | Certificate::ExpiredContext { .. } => {
                "the certificate has expired"
            }
            Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => {
                "the certificate is not valid yet"
            }
            Certificate::BadSignature => {
                "the certificate is signed by another authority of the same name"
            }
            Certificate::UnsupportedSignatureAlgorithmContext { .. }
            | Certificate::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
                "the certificate is signed with an algorithm that is too old"
            }
            Certificate::InvalidPurpose | Certificate::InvalidPurposeContext { .. } => {
                "the certificate is not one for servers"
            }
            _ => "the certificate is not valid",
        },
        TlsError::AlertReceived(alert) => match alert {
            Alert::CertificateRequired => {
                "the server requires a client certificate: set DB_SSLCERT or REDIS_CERT"
            }
            // Also sent for a missing client certificate below TLS 1.3.
            Alert::HandshakeFailure => {
                "the server rejected the handshake: it may require a client certificate or another cipher"
            }
            Alert::UnknownCA
            | Alert::BadCertificate
            | Alert::CertificateUnknown
            | Alert::UnsupportedCertificate
            | Alert::DecryptError
            | Alert::AccessDenied => "the server rejected the client certificate",
            Alert::CertificateExpired => "the client certificate has expired",
            Alert::CertificateRevoked => "the client certificate was revoked",
            Alert::ProtocolVersion => "the server supports no version of TLS that is safe",
            Alert::UnrecognisedName => "the server does not know the host name",
            _ => "the server rejected the handshake",
        },
        TlsError::PeerIncompatible(_) => "no common protocol version or cipher",
        TlsError::InvalidMessage(_) => "the server does not speak TLS",
        _ => "the handshake failed",
    }
}

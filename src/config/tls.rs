//! Encryption of connections to PostgreSQL and Redis, and the certificate files for it.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::Path;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, RootCertStore};

use super::parse;
use super::validator::Validator;
use crate::sys::explain_denial;

/// Encryption of connections, and the certificate that is presented to the server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TlsSettings {
    pub mode: TlsMode,
    pub identity: Option<ClientIdentity>,
}

/// Encryption of connections. Not used on Unix sockets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TlsMode {
    /// No encryption.
    Off,
    /// Encryption only if the server rejects connections without it.
    Allow,
    /// Encryption if the server supports it.
    Prefer,
    /// Encryption without a check of the certificate. Protects against eavesdropping only.
    Unverified,
    /// Encryption, and one of the authorities must have signed the certificate, for any host.
    VerifyAuthority(CertificateAuthorities),
    /// Encryption, and the certificate must be valid for the host.
    Verified(CertificateAuthorities),
}

/// The certificate authorities that are trusted.
#[derive(Clone, PartialEq, Eq)]
pub enum CertificateAuthorities {
    /// The authorities that the system trusts.
    System,
    /// Only these. A certificate of a server may be its own authority.
    Custom(Vec<CertificateDer<'static>>),
}

/// A certificate, its chain, and its private key.
pub struct ClientIdentity {
    certificates: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl TlsMode {
    /// Whether an unencrypted connection over a network is refused.
    #[must_use]
    pub fn is_required(&self) -> bool {
        !matches!(self, Self::Off | Self::Allow | Self::Prefer)
    }
}

impl ClientIdentity {
    /// The certificate and its chain.
    #[must_use]
    pub fn certificates(&self) -> Vec<CertificateDer<'static>> {
        self.certificates.clone()
    }

    /// The private key.
    #[must_use]
    pub fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }
}

impl Clone for ClientIdentity {
    fn clone(&self) -> Self {
        Self {
            certificates: self.certificates(),
            key: self.key(),
        }
    }
}

impl PartialEq for ClientIdentity {
    fn eq(&self, other: &Self) -> bool {
        self.certificates == other.certificates && self.key.secret_der() == other.key.secret_der()
    }
}

impl Eq for ClientIdentity {}

impl Hash for ClientIdentity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for certificate in &self.certificates {
            certificate.as_ref().hash(state);
        }
        self.key.secret_der().hash(state);
    }
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientIdentity({})", self.certificates.len())
    }
}

impl Hash for CertificateAuthorities {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::System => state.write_u8(0),
            Self::Custom(certificates) => {
                for certificate in certificates {
                    certificate.as_ref().hash(state);
                }
            }
        }
    }
}

impl fmt::Debug for CertificateAuthorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("System"),
            Self::Custom(certificates) => write!(f, "Custom({})", certificates.len()),
        }
    }
}

/// A setting whose value is the path of a file, and the path if the setting has one.
#[derive(Debug, Clone)]
pub(super) struct FileSetting {
    pub name: &'static str,
    pub path: Option<String>,
}

impl FileSetting {
    /// The value of the setting `name`.
    pub fn of(validator: &Validator<'_>, name: &'static str) -> Self {
        let value = validator.sources.get(name);
        Self {
            name,
            path: value.map(|(text, _)| text.to_owned()),
        }
    }

    /// Reads the file with `read`. `None` if there is none or it is not usable, which is recorded.
    fn load<T>(
        &self,
        validator: &mut Validator<'_>,
        read: impl FnOnce(&Path) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.path.as_ref()?;
        let sources = validator.sources;
        validator.parsed(self.name, text, |text| read(&parse::path(text, sources)?))
    }
}

/// The certificates in the file of `setting`.
pub(super) fn load_authorities(
    validator: &mut Validator<'_>,
    setting: &FileSetting,
) -> Option<CertificateAuthorities> {
    setting
        .load(validator, read_authorities)
        .map(CertificateAuthorities::Custom)
}

/// Something is wrong, and recorded.
pub(super) struct Recorded;

/// The client certificate and its key, if they are set.
pub(super) fn load_identity(
    validator: &mut Validator<'_>,
    certificate: &FileSetting,
    key: &FileSetting,
) -> Result<Option<ClientIdentity>, Recorded> {
    let certificates = certificate.load(validator, read_certificates);
    let private_key = key.load(validator, read_key);
    match (&certificate.path, &key.path) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => {}
        (Some(_), None) => {
            let message = format!("needs its private key: set {}", key.name);
            validator.add_problem(certificate.name, message);
        }
        (None, Some(_)) => {
            let message = format!("needs the certificate: set {}", certificate.name);
            validator.add_problem(key.name, message);
        }
    }
    let (Some(certificates), Some(private_key)) = (certificates, private_key) else {
        return Err(Recorded);
    };
    let pair = CertifiedKey::from_der(
        certificates.clone(),
        private_key.clone_key(),
        &ring::default_provider(),
    );
    match pair {
        Ok(_) => Ok(Some(ClientIdentity {
            certificates,
            key: private_key,
        })),
        Err(rustls::Error::InconsistentKeys(_)) => {
            let message = format!("is not the key of the certificate in {}", certificate.name);
            validator.add_problem(key.name, message);
            Err(Recorded)
        }
        Err(_) => {
            let message = "has a kind of key or certificate that is not supported: use RSA, ECDSA (P-256, P-384) or Ed25519";
            validator.add_problem(key.name, message.into());
            Err(Recorded)
        }
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let shown = path.display();
    let is_file = path.metadata().map(|metadata| metadata.is_file());
    let bytes = match is_file {
        Ok(true) => std::fs::read(path),
        Ok(false) => return Err(format!("{shown} is not a regular file")),
        Err(error) => Err(error),
    };
    bytes.map_err(|error| {
        let error = explain_denial(path, error);
        format!("{shown} cannot be read: {error}")
    })
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let shown = path.display();
    let pem = read_file(path)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|_| format!("{shown} is not in PEM format"))?;
    if certificates.is_empty() {
        return Err(format!("{shown} contains no certificate in PEM format"));
    }
    Ok(certificates)
}

fn read_authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = read_certificates(path)?;
    let mut store = RootCertStore::empty();
    for certificate in &certificates {
        store.add(certificate.clone()).map_err(|_| {
            format!(
                "{} contains a certificate that is not a CA certificate",
                path.display()
            )
        })?;
    }
    Ok(certificates)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let shown = path.display();
    let pem = read_file(path)?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
        let text = String::from_utf8_lossy(&pem);
        // A key in the older format says so in a header.
        if text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED")
        {
            format!("{shown} is encrypted, and there is nobody to type its password: decrypt it with `openssl pkey`")
        } else {
            format!("{shown} contains no private key in PEM format")
        }
    })
}

//! Settings of the services that health depends on: PostgreSQL and Redis.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::Path;
use std::time::Duration;

use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};

use super::parse;
use super::secret::Secret;
use super::validator::Validator;

/// The services to probe, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DependencySettings {
    /// PostgreSQL, if `DB_NAME` is set.
    pub database: Option<DatabaseSettings>,
    /// Redis, if `REDIS_HOST` is set.
    pub redis: Option<RedisSettings>,
    pub probe_schedule: ProbeSchedule,
}

/// How often a dependency is probed, and how long a probe may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeSchedule {
    /// From the end of a probe to the next.
    pub interval: Duration,
    /// Limit on one probe, at most half of the interval.
    pub timeout: Duration,
}

/// A PostgreSQL database and its credentials.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DatabaseSettings {
    pub endpoint: DependencyEndpoint,
    /// The role; the system user by default.
    pub user: String,
    pub password: Option<Secret>,
    pub name: String,
}

/// A Redis server and its credentials.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RedisSettings {
    pub endpoint: DependencyEndpoint,
    /// The password of the default user.
    pub password: Option<Secret>,
}

/// Address of a dependency, and the encryption of connections to it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DependencyEndpoint {
    /// A name or an IP address.
    pub host: String,
    pub port: u16,
    pub tls: TlsMode,
}

/// Encryption of connections.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TlsMode {
    /// No encryption.
    Off,
    /// Encryption without a check of the certificate. Protects against eavesdropping only.
    Unverified,
    /// Encryption, and the certificate must be valid for the host.
    Verified(CertificateAuthorities),
}

/// The certificate authorities that are trusted.
#[derive(Clone, PartialEq, Eq)]
pub enum CertificateAuthorities {
    /// The authorities that the system trusts.
    System,
    /// Only these.
    Custom(Vec<CertificateDer<'static>>),
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

impl DependencySettings {
    pub(super) fn load(validator: &mut Validator<'_>) -> Option<Self> {
        let interval = validator.value("CHECK_INTERVAL", parse::check_interval);
        let timeout = validator.value("CHECK_TIMEOUT", parse::check_timeout);
        if let (Some(interval), Some(timeout)) = (interval, timeout)
            && timeout > interval / 2
        {
            validator.add_problem(
                "CHECK_TIMEOUT",
                format!("`{timeout:?}` is more than half of CHECK_INTERVAL ({interval:?})"),
            );
        }
        let probe_schedule = ProbeSchedule {
            interval: interval?,
            timeout: timeout?,
        };
        let database = load_database(validator);
        let redis = load_redis(validator);
        Some(Self {
            database,
            redis,
            probe_schedule,
        })
    }
}

/// `None` if there is nothing to probe, or if a setting is invalid, which is recorded.
fn load_database(validator: &mut Validator<'_>) -> Option<DatabaseSettings> {
    let host = validator.value("DB_HOST", |text| parse::dependency_host(text, "DB"));
    let port = validator.value("DB_PORT", parse::dependency_port);
    let mode = validator.value("DB_SSLMODE", parse::ssl_mode);
    let is_verified = mode.map(|mode| mode == parse::SslMode::VerifyFull);
    let authorities = load_authorities(
        validator,
        "DB_SSLROOTCERT",
        "DB_SSLMODE=verify-full",
        is_verified,
    );
    let user = validator.value("DB_USER", parse::any_text);
    let password = validator.value("DB_PASSWORD", parse::password);
    let name = validator.value("DB_NAME", parse::any_text)?;
    let user = user.or_else(|| system_user(validator));
    let tls = match mode? {
        parse::SslMode::Disable => TlsMode::Off,
        parse::SslMode::Require => TlsMode::Unverified,
        parse::SslMode::VerifyFull => TlsMode::Verified(authorities?),
    };
    let endpoint = check_endpoint(validator, "DB_HOST", host?, port?, tls)?;
    Some(DatabaseSettings {
        endpoint,
        user: user?,
        password,
        name,
    })
}

fn load_redis(validator: &mut Validator<'_>) -> Option<RedisSettings> {
    let port = validator.value("REDIS_PORT", parse::dependency_port);
    let is_encrypted = validator.value("REDIS_TLS", parse::on_or_off);
    let authorities = load_authorities(validator, "REDIS_CACERT", "REDIS_TLS=on", is_encrypted);
    let password = validator.value("REDIS_PASSWORD", parse::password);
    let host = validator.value("REDIS_HOST", |text| parse::dependency_host(text, "REDIS"))?;
    let tls = if is_encrypted? {
        TlsMode::Verified(authorities?)
    } else {
        TlsMode::Off
    };
    let endpoint = check_endpoint(validator, "REDIS_HOST", host, port?, tls)?;
    Some(RedisSettings { endpoint, password })
}

/// TLS needs a host that a certificate can name.
fn check_endpoint(
    validator: &mut Validator<'_>,
    setting: &str,
    host: String,
    port: u16,
    tls: TlsMode,
) -> Option<DependencyEndpoint> {
    if tls != TlsMode::Off && ServerName::try_from(host.as_str()).is_err() {
        let message = format!("`{host}` is not a DNS name or an IP address, which TLS needs");
        validator.add_problem(setting, message);
        return None;
    }
    Some(DependencyEndpoint { host, port, tls })
}

/// The authorities in the file that `setting` names, or the system's. They have an effect only if
/// certificates are verified: `verify` is the setting for that, and `is_verified` its state, if it
/// is valid.
fn load_authorities(
    validator: &mut Validator<'_>,
    setting: &'static str,
    verify: &str,
    is_verified: Option<bool>,
) -> Option<CertificateAuthorities> {
    if validator.sources.get(setting).is_none() {
        return Some(CertificateAuthorities::System);
    }
    if is_verified == Some(false) {
        let message = format!("has no effect without {verify}: set {verify}, or remove {setting}");
        validator.add_problem(setting, message);
    }
    let sources = validator.sources;
    validator
        .value(setting, |text| {
            read_certificates(&parse::path(text, sources)?)
        })
        .map(CertificateAuthorities::Custom)
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let shown = path.display();
    let is_file = |path: &Path| path.metadata().map(|metadata| metadata.is_file());
    let pem = match is_file(path) {
        Ok(true) => std::fs::read(path),
        Ok(false) => return Err(format!("{shown} is not a regular file")),
        Err(error) => Err(error),
    };
    let pem = pem.map_err(|error| format!("{shown} cannot be read: {error}"))?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|_| format!("{shown} is not in PEM format"))?;
    if certificates.is_empty() {
        return Err(format!("{shown} contains no certificate in PEM format"));
    }
    let mut store = RootCertStore::empty();
    for certificate in &certificates {
        store
            .add(certificate.clone())
            .map_err(|_| format!("{shown} contains a certificate that is not a CA certificate"))?;
    }
    Ok(certificates)
}

/// The default of PostgreSQL's own clients. `None` if `DB_USER` is set, but invalid.
fn system_user(validator: &mut Validator<'_>) -> Option<String> {
    if validator.sources.get("DB_USER").is_some() {
        return None;
    }
    let uid = nix::unistd::geteuid();
    let user = nix::unistd::User::from_uid(uid).ok().flatten();
    if user.is_none() {
        let message = format!(
            "is not set, and this user ({uid}) has no name on this machine: set it to the PostgreSQL user"
        );
        validator.add_problem("DB_USER", message);
    }
    user.map(|user| user.name)
}

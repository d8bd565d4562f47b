//! What the service depends on: PostgreSQL and Redis, and how often they are asked.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::Path;
use std::time::Duration;

use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};

use super::{Secret, Validator, parse};

/// What is checked all the time, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DependencySettings {
    /// PostgreSQL, when `DB_NAME` is set.
    pub database: Option<DatabaseSettings>,
    /// Redis, when `REDIS_HOST` is set.
    pub redis: Option<RedisSettings>,
    /// From one probe to the next.
    pub probe_schedule: ProbeSchedule,
}

/// How often a dependency is asked, and how long it may take to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeSchedule {
    /// From the end of a probe to the next.
    pub interval: Duration,
    /// How long a probe may take; at most half of the interval.
    pub timeout: Duration,
}

/// Where PostgreSQL is and how to sign in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DatabaseSettings {
    /// Where it listens.
    pub endpoint: DependencyEndpoint,
    /// The role, the system's user when none is set.
    pub user: String,
    /// Its password.
    pub password: Option<Secret>,
    /// The database.
    pub name: String,
}

/// Where Redis is and how to sign in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RedisSettings {
    /// Where it listens.
    pub endpoint: DependencyEndpoint,
    /// Password of the default user.
    pub password: Option<Secret>,
}

/// Where a dependency listens, and how the way there is protected.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DependencyEndpoint {
    /// A name or an IP address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Encryption.
    pub tls: TlsMode,
}

/// How a connection is encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TlsMode {
    /// Not at all.
    Off,
    /// Against whoever only listens: the certificate is not looked at.
    Unverified,
    /// The certificate has to be valid, and the host's.
    Verified(CertificateAuthorities),
}

/// Who may sign certificates.
#[derive(Clone, PartialEq, Eq)]
pub enum CertificateAuthorities {
    /// Whom the system trusts.
    System,
    /// These.
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
            Self::Custom(certificates) => write!(f, "These({})", certificates.len()),
        }
    }
}

impl DependencySettings {
    pub(super) fn load(check: &mut Validator<'_>) -> Option<Self> {
        let interval = check.value("CHECK_INTERVAL", parse::check_interval);
        let timeout = check.value("CHECK_TIMEOUT", parse::check_timeout);
        if let (Some(interval), Some(timeout)) = (interval, timeout)
            && timeout > interval / 2
        {
            check.add_problem(
                "CHECK_TIMEOUT",
                format!("{timeout:?} is more than half of CHECK_INTERVAL, which is {interval:?}"),
            );
        }
        let pace = ProbeSchedule {
            interval: interval?,
            timeout: timeout?,
        };
        let database = load_database(check);
        let redis = load_redis(check);
        Some(Self {
            database,
            redis,
            probe_schedule: pace,
        })
    }
}

/// `None` when none is to be checked, or something is wrong and noted.
fn load_database(check: &mut Validator<'_>) -> Option<DatabaseSettings> {
    let host = check.value("DB_HOST", parse::dependency_host);
    let port = check.value("DB_PORT", parse::dependency_port);
    let mode = check.value("DB_SSLMODE", parse::ssl_mode);
    let is_verified = mode.map(|mode| mode == parse::SslMode::VerifyFull);
    let authorities = load_authorities(
        check,
        "DB_SSLROOTCERT",
        "DB_SSLMODE=verify-full",
        is_verified,
    );
    let user = check.value("DB_USER", parse::any_text);
    let password = check.value("DB_PASSWORD", parse::password);
    let (name, _) = check.sources.get("DB_NAME")?;
    let name = name.to_owned();
    let tls = match mode? {
        parse::SslMode::Disable => TlsMode::Off,
        parse::SslMode::Require => TlsMode::Unverified,
        parse::SslMode::VerifyFull => TlsMode::Verified(authorities?),
    };
    let server = check_endpoint(check, "DB_HOST", host?, port?, tls)?;
    Some(DatabaseSettings {
        endpoint: server,
        user: user.unwrap_or_else(system_user),
        password,
        name,
    })
}

fn load_redis(check: &mut Validator<'_>) -> Option<RedisSettings> {
    let port = check.value("REDIS_PORT", parse::dependency_port);
    let is_encrypted = check.value("REDIS_TLS", parse::on_or_off);
    let authorities = load_authorities(check, "REDIS_CACERT", "REDIS_TLS=on", is_encrypted);
    let password = check.value("REDIS_PASSWORD", parse::password);
    let host = check.value("REDIS_HOST", parse::dependency_host)?;
    let tls = if is_encrypted? {
        TlsMode::Verified(authorities?)
    } else {
        TlsMode::Off
    };
    let server = check_endpoint(check, "REDIS_HOST", host, port?, tls)?;
    Some(RedisSettings {
        endpoint: server,
        password,
    })
}

/// A certificate has to be one for this host.
fn check_endpoint(
    check: &mut Validator<'_>,
    setting: &str,
    host: String,
    port: u16,
    tls: TlsMode,
) -> Option<DependencyEndpoint> {
    if tls != TlsMode::Off && ServerName::try_from(host.as_str()).is_err() {
        let message = format!("`{host}` is neither a name of DNS nor an address: TLS needs one");
        check.add_problem(setting, message);
        return None;
    }
    Some(DependencyEndpoint { host, port, tls })
}

/// Those of the file that this setting names, or the system's. Nobody looks at them unless a certificate is verified, as
/// `verify` asks for; `is_verified` unless that is not known.
fn load_authorities(
    check: &mut Validator<'_>,
    setting: &'static str,
    verify: &str,
    is_verified: Option<bool>,
) -> Option<CertificateAuthorities> {
    if check.sources.get(setting).is_none() {
        return Some(CertificateAuthorities::System);
    }
    if is_verified == Some(false) {
        let message =
            format!("no certificate is looked at without {verify}: set it, or remove this");
        check.add_problem(setting, message);
    }
    let sources = check.sources;
    check
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
        .map_err(|_| format!("{shown} is not in the PEM format"))?;
    if certificates.is_empty() {
        return Err(format!("{shown} holds no certificate in the PEM format"));
    }
    let mut store = RootCertStore::empty();
    for certificate in &certificates {
        store
            .add(certificate.clone())
            .map_err(|_| format!("{shown} holds a certificate that is none of an authority"))?;
    }
    Ok(certificates)
}

/// As PostgreSQL's own clients do.
fn system_user() -> String {
    nix::unistd::User::from_uid(nix::unistd::geteuid())
        .ok()
        .flatten()
        .map_or_else(|| "postgres".into(), |user| user.name)
}

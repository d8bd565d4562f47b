//! What the service depends on: PostgreSQL and Redis, and how often they are asked.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::Path;
use std::time::Duration;

use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};

use super::{Check, Secret, parse};

/// What is checked all the time, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DependencySettings {
    /// PostgreSQL, when `DB_NAME` is set.
    pub database: Option<DatabaseSettings>,
    /// Redis, when `REDIS_HOST` is set.
    pub redis: Option<RedisSettings>,
    /// From one probe to the next.
    pub pace: Pace,
}

/// How often a dependency is asked, and how long it may take to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// From the end of a probe to the next.
    pub interval: Duration,
    /// How long a probe may take; at most half of the interval.
    pub timeout: Duration,
}

/// Where PostgreSQL is and how to sign in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DatabaseSettings {
    /// Where it listens.
    pub server: Server,
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
    pub server: Server,
    /// Password of the default user.
    pub password: Option<Secret>,
}

/// Where a dependency listens, and how the way there is protected.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Server {
    /// A name or an IP address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Encryption.
    pub tls: Tls,
}

/// How a connection is encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Tls {
    /// Not at all.
    Off,
    /// Against whoever only listens: the certificate is not looked at.
    Unverified,
    /// The certificate has to be valid, and the host's.
    Verified(Authorities),
}

/// Who may sign certificates.
#[derive(Clone, PartialEq, Eq)]
pub enum Authorities {
    /// Whom the system trusts.
    System,
    /// These.
    These(Vec<CertificateDer<'static>>),
}

impl Hash for Authorities {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::System => state.write_u8(0),
            Self::These(certificates) => {
                for certificate in certificates {
                    certificate.as_ref().hash(state);
                }
            }
        }
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("System"),
            Self::These(certificates) => write!(f, "These({})", certificates.len()),
        }
    }
}

impl DependencySettings {
    pub(super) fn find(check: &mut Check<'_>) -> Option<Self> {
        let interval = check.value("CHECK_INTERVAL", parse::check_interval);
        let timeout = check.value("CHECK_TIMEOUT", parse::check_timeout);
        if let (Some(interval), Some(timeout)) = (interval, timeout)
            && timeout > interval / 2
        {
            check.problem(
                "CHECK_TIMEOUT",
                format!("{timeout:?} is more than half of CHECK_INTERVAL, which is {interval:?}"),
            );
        }
        let pace = Pace {
            interval: interval?,
            timeout: timeout?,
        };
        let database = find_database(check);
        let redis = find_redis(check);
        Some(Self {
            database,
            redis,
            pace,
        })
    }
}

/// `None` when none is to be checked, or something is wrong and noted.
fn find_database(check: &mut Check<'_>) -> Option<DatabaseSettings> {
    let host = check.value("DB_HOST", parse::dependency_host);
    let port = check.value("DB_PORT", parse::dependency_port);
    let mode = check.value("DB_SSLMODE", parse::ssl_mode);
    let is_verified = mode.map(|mode| mode == parse::SslMode::VerifyFull);
    let authorities = find_authorities(
        check,
        "DB_SSLROOTCERT",
        "DB_SSLMODE=verify-full",
        is_verified,
    );
    let user = check.value("DB_USER", parse::text);
    let password = check.value("DB_PASSWORD", parse::password);
    let (name, _) = check.sources.get("DB_NAME")?;
    let name = name.to_owned();
    let tls = match mode? {
        parse::SslMode::Disable => Tls::Off,
        parse::SslMode::Require => Tls::Unverified,
        parse::SslMode::VerifyFull => Tls::Verified(authorities?),
    };
    let server = find_server(check, "DB_HOST", host?, port?, tls)?;
    Some(DatabaseSettings {
        server,
        user: user.unwrap_or_else(system_user),
        password,
        name,
    })
}

fn find_redis(check: &mut Check<'_>) -> Option<RedisSettings> {
    let port = check.value("REDIS_PORT", parse::dependency_port);
    let is_encrypted = check.value("REDIS_TLS", parse::on_or_off);
    let authorities = find_authorities(check, "REDIS_CACERT", "REDIS_TLS=on", is_encrypted);
    let password = check.value("REDIS_PASSWORD", parse::password);
    let host = check.value("REDIS_HOST", parse::dependency_host)?;
    let tls = if is_encrypted? {
        Tls::Verified(authorities?)
    } else {
        Tls::Off
    };
    let server = find_server(check, "REDIS_HOST", host, port?, tls)?;
    Some(RedisSettings { server, password })
}

/// A certificate has to be one for this host.
fn find_server(
    check: &mut Check<'_>,
    setting: &str,
    host: String,
    port: u16,
    tls: Tls,
) -> Option<Server> {
    if tls != Tls::Off && ServerName::try_from(host.as_str()).is_err() {
        let message = format!("`{host}` is neither a name of DNS nor an address: TLS needs one");
        check.problem(setting, message);
        return None;
    }
    Some(Server { host, port, tls })
}

/// Those of the file that this setting names, or the system's. Nobody looks at them unless a certificate is verified, as
/// `verify` asks for; `is_verified` unless that is not known.
fn find_authorities(
    check: &mut Check<'_>,
    setting: &'static str,
    verify: &str,
    is_verified: Option<bool>,
) -> Option<Authorities> {
    if check.sources.get(setting).is_none() {
        return Some(Authorities::System);
    }
    if is_verified == Some(false) {
        let message =
            format!("no certificate is looked at without {verify}: set it, or remove this");
        check.problem(setting, message);
    }
    let sources = check.sources;
    check
        .value(setting, |text| certificates(&parse::path(text, sources)?))
        .map(Authorities::These)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
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

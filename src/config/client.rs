//! Settings for commands that operate a running daemon.

use std::net::SocketAddr;
use std::path::PathBuf;

use bytesize::ByteSize;

use super::admin_origins::AdminOrigins;
use super::error::{InvalidSettings, SettingProblem};
use super::log::{LogTarget, audit_file};
use super::parse;
use super::secret::Secret;
use super::sources::Sources;
use super::trusted_proxies::TrustedProxies;
use super::validator::Validator;

/// The settings that a client command needs to find the daemon. Only `PID_FILE` has to be valid: a
/// mistake in another setting must not prevent an operator from stopping the daemon.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// The PID file; its lock tells whether the daemon runs.
    pub pid_file: PathBuf,
    /// Expected address of the admin API. The daemon's state file overrides it.
    pub admin: Option<SocketAddr>,
    /// Expected destination of the log. The daemon's state file overrides it.
    pub log: Option<LogTarget>,
    /// Expected audit file. The daemon's state file overrides it.
    pub audit_file: Option<PathBuf>,
    /// `JWT_SECRET_KEY`, if it is set and valid.
    pub jwt_secret: Option<Secret>,
    /// Holds the secret if `JWT_SECRET_KEY` is not set.
    pub key_file: Option<PathBuf>,
    /// Problems with the settings that were not needed.
    pub ignored_problems: Vec<SettingProblem>,
}

/// Every setting that is valid, whatever is wrong with the others. For diagnosis, not for running.
#[derive(Debug)]
pub struct BestEffortSettings {
    /// The settings that find the daemon. An invalid `PID_FILE` is in it as written.
    pub client: ClientSettings,
    /// Whether `PID_FILE` is valid.
    pub is_pid_file_valid: bool,
    /// Address of the public API.
    pub public: Option<SocketAddr>,
    /// Further origins of the admin API, behind a proxy.
    pub admin_origins: Option<AdminOrigins>,
    pub trusted_proxies: Option<TrustedProxies>,
    /// Size at which the log file is rotated.
    pub log_max_size: Option<ByteSize>,
}

impl ClientSettings {
    /// Loads the valid settings.
    ///
    /// # Errors
    ///
    /// `PID_FILE` is not a usable path.
    pub fn load(sources: &Sources) -> Result<Self, InvalidSettings> {
        let mut validator = Validator::new(sources);
        match validator.value("PID_FILE", |text| parse::path(text, sources)) {
            Some(pid_file) => {
                let key_file = validator.key_file(Some(&pid_file));
                Ok(Self::with_files(pid_file, key_file, validator))
            }
            None => Err(InvalidSettings(validator.problems)),
        }
    }

    fn with_files(
        pid_file: PathBuf,
        key_file: Option<PathBuf>,
        mut validator: Validator<'_>,
    ) -> Self {
        let sources = validator.sources;
        let host = validator.value("ADMIN_HOST", parse::loopback);
        let port = validator.value("ADMIN_PORT", parse::port);
        let log = validator.value("LOG_FILE", |text| LogTarget::parse(text, sources));
        Self {
            pid_file,
            audit_file: audit_file(&mut validator, log.as_ref()),
            admin: host.zip(port).map(SocketAddr::from),
            log,
            jwt_secret: validator.value("JWT_SECRET_KEY", parse::jwt_secret),
            key_file,
            ignored_problems: [sources.problems(), &validator.problems].concat(),
        }
    }
}

impl BestEffortSettings {
    /// Loads the valid settings. [`super::Settings::load`] reports the problems of the others.
    #[must_use]
    pub fn load(sources: &Sources) -> Self {
        let mut validator = Validator::new(sources);
        let host = validator.value("HOST", parse::host);
        let port = validator.value("PORT", parse::port);
        let admin_origins = validator.value("ADMIN_ORIGINS", AdminOrigins::parse);
        let trusted_proxies = validator.value("TRUSTED_PROXIES", TrustedProxies::parse);
        let log_max_size = validator.value("LOG_MAX_SIZE", parse::log_max_size);
        let pid_file = validator.value("PID_FILE", |text| parse::path(text, sources));
        let is_pid_file_valid = pid_file.is_some();
        let key_file = validator.key_file(pid_file.as_deref());
        let pid_file = pid_file.unwrap_or_else(|| {
            let written = sources.get("PID_FILE").map_or("", |(text, _)| text);
            sources.directory().join(written)
        });
        Self {
            client: ClientSettings::with_files(pid_file, key_file, validator),
            is_pid_file_valid,
            public: host.zip(port).map(SocketAddr::from),
            admin_origins,
            trusted_proxies,
            log_max_size,
        }
    }
}

//! The settings that the daemon runs with.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::admin_origins::AdminOrigins;
use super::app::{AppLimits, AppSettings};
use super::changes::RawValues;
use super::dependencies::DependencySettings;
use super::entries::{SettingEntry, setting_entries};
use super::error::InvalidSettings;
use super::limits::Limits;
use super::log::{LogSettings, LogTarget, audit_file};
use super::own_files::OwnFiles;
use super::parse;
use super::secret::Secret;
use super::sources::Sources;
use super::table::DEFINITIONS;
use super::trusted_proxies::TrustedProxies;
use super::validator::Validator;
use crate::identity::identity;

/// The settings that the daemon runs with. All of them are valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Address of the public API.
    pub public: SocketAddr,
    /// Address of the admin API, always a loopback address.
    pub admin: SocketAddr,
    /// Further origins of the admin API, behind a proxy.
    pub admin_origins: AdminOrigins,
    /// Proxies that say which client sent a request.
    pub trusted_proxies: TrustedProxies,
    /// Format and destination of log lines.
    pub log: LogSettings,
    /// The audit file; `None` if changes are only logged.
    pub audit_file: Option<PathBuf>,
    /// The PID file, locked while the daemon runs.
    pub pid_file: PathBuf,
    /// How long requests in flight may take when the daemon stops.
    pub shutdown_timeout: Duration,
    /// How long the daemon keeps serving after a stop was requested, while health reports that it
    /// is not ready.
    pub drain_delay: Duration,
    /// The secret that signs tokens. Without it, the secret is in `key_file`.
    pub jwt_secret: Option<Secret>,
    /// Holds the secret if `JWT_SECRET_KEY` is not set; created on first use.
    pub key_file: PathBuf,
    /// How long the previous secret stays valid after a change.
    pub key_grace: Duration,
    /// Limits on connections and requests.
    pub limits: Limits,
    /// The application that the daemon runs, if there is one.
    pub app: Option<AppSettings>,
    app_limits: AppLimits,
    /// The services that health depends on.
    pub dependencies: DependencySettings,
    entries: Vec<SettingEntry>,
    /// The texts that the values were parsed from, to detect later changes.
    raw_values: RawValues,
}

impl Settings {
    /// Validates every setting.
    ///
    /// # Errors
    ///
    /// All problems at once, including those of the `.env` file.
    pub fn load(sources: &Sources) -> Result<Self, InvalidSettings> {
        let mut validator = Validator::new(sources);
        let settings = Self::validate(&mut validator);
        let problems = [sources.problems(), &validator.problems].concat();
        match settings {
            Some(settings) if problems.is_empty() => Ok(settings),
            _ => Err(InvalidSettings(problems)),
        }
    }

    /// Validates every setting of a daemon, also whether it can run in the background.
    ///
    /// # Errors
    ///
    /// The problems of [`Self::load`], or the log of a daemon in the background would go to stdout.
    pub fn load_for_daemon(
        sources: &Sources,
        is_background: bool,
    ) -> Result<Self, InvalidSettings> {
        let settings = Self::load(sources)?;
        let mut validator = Validator::new(sources);
        if is_background && settings.log.target == LogTarget::Stdout {
            let message = format!(
                "`-` is stdout, which a daemon in the background does not have: set a file, or use `{} run`",
                identity().command
            );
            validator.add_problem("LOG_FILE", message);
        }
        match validator.problems {
            problems if problems.is_empty() => Ok(settings),
            problems => Err(InvalidSettings(problems)),
        }
    }

    fn validate(validator: &mut Validator<'_>) -> Option<Self> {
        let sources = validator.sources;
        let host = validator.value("HOST", parse::host);
        let port = validator.value("PORT", parse::port);
        let admin_host = validator.value("ADMIN_HOST", parse::loopback);
        let admin_port = validator.value("ADMIN_PORT", parse::port);
        let admin_origins = validator.value("ADMIN_ORIGINS", AdminOrigins::parse);
        let trusted_proxies = validator.value("TRUSTED_PROXIES", TrustedProxies::parse);
        let log = LogSettings::load(validator);
        let audit_file = audit_file(validator, log.as_ref().map(|log| &log.target));
        let pid_file = validator.value("PID_FILE", |text| parse::path(text, sources));
        let shutdown_timeout = validator.value("SHUTDOWN_TIMEOUT", parse::shutdown_timeout);
        let drain_delay = validator.value("DRAIN_DELAY", parse::drain_delay);
        let jwt_secret = validator.value("JWT_SECRET_KEY", parse::jwt_secret);
        let key_grace = validator.value("JWT_SECRET_KEY_GRACE", parse::key_grace);
        let limits = Limits::load(validator);
        let app_limits = AppLimits::load(validator);
        let app = AppSettings::load(validator, app_limits);
        let dependencies = DependencySettings::load(validator);
        let key_file = validator.key_file(pid_file.as_deref());

        if let Some(port) = port.filter(|port| *port != 0 && admin_port == Some(*port)) {
            report_equal_ports(validator, port);
        }
        OwnFiles {
            log: log.as_ref().and_then(|log| log.target.file()),
            audit: audit_file.as_deref(),
            pid: pid_file.as_deref(),
            key: key_file.as_deref(),
        }
        .check(validator);

        let key_file = key_file?;
        Some(Self {
            public: SocketAddr::new(host?, port?),
            admin: SocketAddr::new(admin_host?, admin_port?),
            admin_origins: admin_origins.unwrap_or_default(),
            trusted_proxies: trusted_proxies.unwrap_or_default(),
            log: log?,
            audit_file,
            pid_file: pid_file?,
            shutdown_timeout: shutdown_timeout?,
            drain_delay: drain_delay?,
            jwt_secret,
            key_grace: key_grace?,
            limits: limits?,
            app,
            app_limits: app_limits?,
            dependencies: dependencies?,
            entries: setting_entries(sources, &key_file),
            raw_values: RawValues::from_sources(sources),
            key_file,
        })
    }

    /// How long a stop may take whose requests in flight get `timeout` to finish.
    #[must_use]
    pub fn stop_timeout(&self, timeout: Duration) -> Duration {
        let of_app = self.app.as_ref().map(|app| app.stop_timeout);
        self.drain_delay + timeout + of_app.unwrap_or_default()
    }

    /// Every setting with its source and its value, with secrets masked.
    #[must_use]
    pub fn entries(&self) -> &[SettingEntry] {
        &self.entries
    }

    pub(super) fn raw_values(&self) -> &RawValues {
        &self.raw_values
    }

    /// These settings with the reloadable ones of `new`.
    ///
    /// A new field is taken from `new`; a field that only a restart changes is listed here.
    pub(super) fn with_reloadable_of(&self, new: Self) -> Self {
        let pick = |(old, new): (&SettingEntry, SettingEntry), is_reloadable| {
            if is_reloadable { new } else { old.clone() }
        };
        let entries = self.entries.iter().zip(new.entries).zip(&DEFINITIONS);
        Self {
            public: self.public,
            admin: self.admin,
            log: self.log.with_reloadable_of(new.log),
            audit_file: self.audit_file.clone(),
            pid_file: self.pid_file.clone(),
            key_file: self.key_file.clone(),
            limits: self.limits.clone(),
            app: self.app.clone().map(|app| app.with_limits(new.app_limits)),
            entries: entries
                .map(|(pair, definition)| pick(pair, definition.is_reloadable))
                .collect(),
            raw_values: self.raw_values.with_reloadable_of(&new.raw_values),
            ..new
        }
    }
}

#[cfg(test)]
impl Settings {
    /// Whether any value differs, not only its text.
    pub(super) fn has_other_values(&self, other: &Self) -> bool {
        let values = |settings: &Self| Self {
            entries: Vec::new(),
            raw_values: RawValues::default(),
            ..settings.clone()
        };
        values(self) != values(other)
    }
}

/// Both listeners have the port `port`. The daemon holds the admin port at all addresses.
fn report_equal_ports(validator: &mut Validator<'_>, port: u16) {
    let source = |name| validator.sources.get(name).map(|(_, source)| source);
    // The mistake is the value of the higher precedence: a flag, rather than a default.
    let (wrong, other) = if source("PORT") < source("ADMIN_PORT") {
        ("PORT", "ADMIN_PORT")
    } else {
        ("ADMIN_PORT", "PORT")
    };
    validator.add_problem(
        wrong,
        format!("`{port}` is also the value of {other}: use two different ports"),
    );
}

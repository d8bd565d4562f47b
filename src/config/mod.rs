//! Settings: flags beat the process environment, which beats `.env`, which beats the default.
//!
//! [`Sources`] finds the text of every setting and where it came from; [`Settings`] is what the daemon runs
//! with and exists only when every value is valid; [`ClientSettings`] is the little that a client verb needs, so
//! that a broken `.env` does not stop `fullon stop`. Nothing else in the crate reads the environment.

mod changes;
mod dependencies;
mod env_file;
mod near_miss;
mod origin;
mod parse;
mod partial;
mod secret;
mod sources;
mod table;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use thiserror::Error;

pub use changes::LiveSettings;
pub use dependencies::{
    CertificateAuthorities, DatabaseSettings, DependencyEndpoint, DependencySettings,
    ProbeSchedule, RedisSettings, TlsMode,
};
pub use near_miss::Typo;
pub use origin::SettingsLocation;
pub use parse::{LogFormat, LogTarget, duration, log_filter as parse_log_filter};
pub use partial::BestEffortSettings;
pub use secret::{MASK, Secret};
pub use sources::{
    EnvFileChoice, Flags, Source, Sources, has_same_variable, inherited_settings, is_colour_wanted,
    user_name,
};
pub use table::{DEFINITIONS, SettingDefinition, flag_name, is_reloadable};

use crate::api::SettingEntry;
use changes::RawValues;

/// One thing that is wrong, by the name of the setting or the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingProblem {
    /// `PORT`, or the path of an `.env` file.
    pub setting: String,
    /// What is wrong and what would be right; never a secret's value.
    pub message: String,
}

impl fmt::Display for SettingProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.setting, self.message)
    }
}

/// Everything that is wrong with the configuration, all at once.
#[derive(Debug, Error)]
pub struct InvalidSettings(pub Vec<SettingProblem>);

impl fmt::Display for InvalidSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid configuration:")?;
        self.0
            .iter()
            .try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

/// What the daemon runs with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the public API listens.
    pub public: SocketAddr,
    /// Where the admin API listens; always a loopback address.
    pub admin: SocketAddr,
    /// How and where the daemon logs.
    pub log: LogSettings,
    /// The file that is locked while the daemon lives.
    pub pid_file: PathBuf,
    /// How long requests in flight may take once the daemon stops.
    pub shutdown_timeout: Duration,
    /// How long the listeners go on once the daemon is asked to stop, and says that it is not ready.
    pub drain_delay: Duration,
    /// `JWT_SECRET_KEY`; without it the secret is kept in `key_file`.
    pub jwt_secret: Option<Secret>,
    /// Where the secret is made and kept when `JWT_SECRET_KEY` is not set.
    pub key_file: PathBuf,
    /// How long the secret before counts once it was changed.
    pub key_grace: Duration,
    /// What clients may cost.
    pub limits: Limits,
    /// What the service depends on.
    pub dependencies: DependencySettings,
    entries: Vec<SettingEntry>,
    /// What the values were made of, to tell what was edited since.
    raw_values: RawValues,
}

/// What clients may cost.
#[derive(Debug, Clone)]
pub struct Limits {
    /// How long the head of a request may take.
    pub header_timeout: Duration,
    /// How long its body may take.
    pub body_timeout: Duration,
    /// How long a connection is kept without a request, or for a client that does not read.
    pub idle_timeout: Duration,
    /// Largest head of a request, in bytes.
    pub max_header_size: usize,
    /// Largest body of a request, in bytes.
    pub max_body_size: usize,
    /// Connections to the public port at once.
    pub max_connections: u32,
    /// Connections to the admin port at once.
    pub admin_max_connections: u32,
    /// Refused tokens a minute after which a peer is told to wait.
    pub failed_tokens_per_minute: u32,
}

impl Limits {
    fn load(check: &mut Validator<'_>) -> Option<Self> {
        let header_timeout = check.value("HEADER_TIMEOUT", parse::client_timeout);
        let body_timeout = check.value("BODY_TIMEOUT", parse::client_timeout);
        let idle_timeout = check.value("IDLE_TIMEOUT", parse::client_timeout);
        let max_header_size = check.value("MAX_HEADER_SIZE", parse::max_header_size);
        let max_body_size = check.value("MAX_BODY_SIZE", parse::max_body_size);
        let max_connections = check.value("MAX_CONNECTIONS", parse::count);
        let admin_max_connections = check.value("ADMIN_MAX_CONNECTIONS", parse::count);
        let failed_tokens_per_minute = check.value("FAILED_TOKENS_PER_MINUTE", parse::count);
        Some(Self {
            header_timeout: header_timeout?,
            body_timeout: body_timeout?,
            idle_timeout: idle_timeout?,
            max_header_size: max_header_size?,
            max_body_size: max_body_size?,
            max_connections: max_connections?,
            admin_max_connections: admin_max_connections?,
            failed_tokens_per_minute: failed_tokens_per_minute?,
        })
    }
}

/// How and where the daemon logs.
#[derive(Debug, Clone)]
pub struct LogSettings {
    /// A tracing filter directive, `info` for `INFO`.
    pub filter: String,
    /// Text or JSON lines.
    pub format: LogFormat,
    /// A file or stdout.
    pub target: LogTarget,
    /// The size at which the file is rotated.
    pub max_size: ByteSize,
    /// How many rotated files are kept.
    pub keep: u16,
}

impl Settings {
    /// Validates every setting.
    ///
    /// # Errors
    ///
    /// All problems at once, those of the `.env` file included.
    pub fn load(sources: &Sources) -> Result<Self, InvalidSettings> {
        let mut check = Validator {
            sources,
            problems: sources.problems().to_vec(),
        };
        let host = check.value("HOST", parse::host);
        let port = check.value("PORT", parse::port);
        let admin_host = check.value("ADMIN_HOST", parse::loopback);
        let admin_port = check.value("ADMIN_PORT", parse::port);
        let filter = check.value("LOG_LEVEL", parse::log_filter);
        let format = check.value("LOG_FORMAT", str::parse);
        let target = check.value("LOG_FILE", |text| parse::log_target(text, sources));
        let max_size = check.value("LOG_MAX_SIZE", parse::log_max_size);
        let keep = check.value("LOG_KEEP", parse::log_keep);
        let pid_file = check.value("PID_FILE", |text| parse::path(text, sources));
        let shutdown_timeout = check.value("SHUTDOWN_TIMEOUT", parse::shutdown_timeout);
        let drain_delay = check.value("DRAIN_DELAY", parse::drain_delay);
        let jwt_secret = check.value("JWT_SECRET_KEY", parse::jwt_secret);
        let key_grace = check.value("JWT_SECRET_KEY_GRACE", parse::key_grace);
        let limits = Limits::load(&mut check);
        let dependencies = DependencySettings::load(&mut check);
        let key_file = check.home_file(KEY_FILE);

        if let (Some(host), Some(port), Some(admin_host)) = (host, port, admin_host)
            && port != 0
            && admin_port == Some(port)
            && (host == admin_host || host.is_unspecified())
        {
            check.add_problem(
                "ADMIN_PORT",
                format!("{port} is also PORT: the two listeners need a port each"),
            );
        }
        if let (Some(LogTarget::File(log)), Some(pid_file)) = (&target, &pid_file)
            && log == pid_file
        {
            check.add_problem("PID_FILE", "is the same file as LOG_FILE".into());
        }

        let problems = check.problems;
        if problems.is_empty()
            && let (Some(host), Some(port), Some(admin_host), Some(admin_port)) =
                (host, port, admin_host, admin_port)
            && let (Some(filter), Some(format), Some(target), Some(max_size), Some(keep)) =
                (filter, format, target, max_size, keep)
            && let (Some(pid_file), Some(shutdown_timeout), Some(key_file)) =
                (pid_file, shutdown_timeout, key_file)
            && let (Some(key_grace), Some(limits), Some(drain_delay), Some(dependencies)) =
                (key_grace, limits, drain_delay, dependencies)
        {
            let entries = setting_entries(sources, &key_file);
            let texts = RawValues::from_sources(sources);
            return Ok(Self {
                public: SocketAddr::new(host, port),
                admin: SocketAddr::new(admin_host, admin_port),
                log: LogSettings {
                    filter,
                    format,
                    target,
                    max_size,
                    keep,
                },
                pid_file,
                shutdown_timeout,
                drain_delay,
                jwt_secret,
                key_file,
                key_grace,
                limits,
                dependencies,
                entries,
                raw_values: texts,
            });
        }
        Err(InvalidSettings(problems))
    }

    /// Whether they suit a daemon in the background.
    ///
    /// # Errors
    ///
    /// The log would go to a stdout that nobody reads.
    pub fn check_background(&self) -> Result<(), InvalidSettings> {
        if self.log.target != LogTarget::Stdout {
            return Ok(());
        }
        Err(InvalidSettings(vec![SettingProblem {
            setting: "LOG_FILE".into(),
            message: "`-` is stdout, which a daemon in the background does not have: name a file, or use `fullon run`".into(),
        }]))
    }

    /// Every setting with its value, secrets masked, and where the value came from.
    #[must_use]
    pub fn entries(&self) -> &[SettingEntry] {
        &self.entries
    }
}

const KEY_FILE: &str = ".fullon_master_api.key";

/// What a client verb needs to find the daemon. Only `PID_FILE` has to be valid for it: a mistake in another
/// setting must not keep an operator from stopping the daemon.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// The file whose lock tells whether the daemon lives.
    pub pid_file: PathBuf,
    /// Where the admin API should be, unless the daemon's state file says otherwise.
    pub admin: Option<SocketAddr>,
    /// Where the log should be, unless the daemon's state file says otherwise.
    pub log: Option<LogTarget>,
    /// `JWT_SECRET_KEY`, when it is set and valid.
    pub jwt_secret: Option<Secret>,
    /// Where the secret is kept when `JWT_SECRET_KEY` is not set.
    pub key_file: Option<PathBuf>,
    /// What is wrong with the settings that were not needed.
    pub ignored_problems: Vec<SettingProblem>,
}

impl ClientSettings {
    /// Finds what can be found.
    ///
    /// # Errors
    ///
    /// `PID_FILE` is not a usable path.
    pub fn load(sources: &Sources) -> Result<Self, InvalidSettings> {
        let mut check = Validator {
            sources,
            problems: Vec::new(),
        };
        let Some(pid_file) = check.value("PID_FILE", |text| parse::path(text, sources)) else {
            return Err(InvalidSettings(check.problems));
        };
        Ok(Self::with_pid_file(pid_file, check))
    }

    fn with_pid_file(pid_file: PathBuf, mut check: Validator<'_>) -> Self {
        let sources = check.sources;
        let host = check.value("ADMIN_HOST", parse::loopback);
        let port = check.value("ADMIN_PORT", parse::port);
        Self {
            pid_file,
            admin: host.zip(port).map(SocketAddr::from),
            log: check.value("LOG_FILE", |text| parse::log_target(text, sources)),
            jwt_secret: check.value("JWT_SECRET_KEY", parse::jwt_secret),
            key_file: check.home_file(KEY_FILE),
            ignored_problems: [sources.problems(), &check.problems].concat(),
        }
    }
}

struct Validator<'a> {
    sources: &'a Sources,
    problems: Vec<SettingProblem>,
}

impl Validator<'_> {
    /// The parsed value; `None` when it is not set, or wrong and noted.
    fn value<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let (text, source) = self.sources.get(name)?;
        match parse(text) {
            Ok(value) => Some(value),
            Err(reason) => {
                self.add_problem(name, format!("{reason} ({source})"));
                None
            }
        }
    }

    fn home_file(&mut self, name: &str) -> Option<PathBuf> {
        let found = self.sources.home().map(|home| home.join(name));
        if found.is_none() {
            self.add_problem(
                "HOME",
                "is not set: the home directory is needed for ~ and the key file".into(),
            );
        }
        found
    }

    fn add_problem(&mut self, setting: &str, message: String) {
        self.problems.push(SettingProblem {
            setting: setting.into(),
            message,
        });
    }
}

fn setting_entries(sources: &Sources, key_file: &Path) -> Vec<SettingEntry> {
    DEFINITIONS
        .iter()
        .map(|definition| {
            let (value, source) = match sources.get(definition.name) {
                Some((_, source)) if definition.is_secret => {
                    (Some(MASK.to_owned()), source.to_string())
                }
                Some((value, source)) => (Some(value.to_owned()), source.to_string()),
                None if definition.name == "JWT_SECRET_KEY" => {
                    (Some(MASK.to_owned()), key_file.display().to_string())
                }
                None => (None, "not set".into()),
            };
            SettingEntry {
                name: definition.name.into(),
                value,
                source,
            }
        })
        .collect()
}

//! The list of settings. Parsing, flags, `config`, the manual page and `.env.example` are derived
//! from it.

use std::borrow::Cow;

use DefaultValue::{Derived, Text, Unset};

use crate::identity::{Identity, identity};

/// A setting as the list declares it.
#[derive(Debug, Clone, Copy)]
pub struct SettingDefinition {
    /// Name in the environment and in `.env`.
    pub name: &'static str,
    /// Secrets are masked in all output. They have no flag, because other users can see the
    /// arguments of a process.
    pub is_secret: bool,
    /// The variable that names a file with the secret instead.
    pub file_variable: Option<&'static str>,
    /// Whether a reload activates a new value. If not, that needs a restart.
    pub is_reloadable: bool,
    /// One line for help texts. Begins with a capital letter and has no full stop.
    pub help: &'static str,
    /// The kind of its value, for completion scripts.
    pub value: SettingValue,
    default: DefaultValue,
}

/// The kind of a value.
#[derive(Debug, Clone, Copy)]
pub enum SettingValue {
    Text,
    /// One of these words, or a text that has no closed list, such as a filter of the log.
    OneOf(&'static [&'static str]),
    /// The path of a file.
    File,
    /// The path of a directory.
    Directory,
}

/// The step that activates a new value of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    Reload,
    Restart,
    /// A stop, then a start. The daemon keeps its PID file, locked, from process to process.
    Start,
}

#[derive(Debug, Clone, Copy)]
enum DefaultValue {
    /// There is none, or it is determined at run time.
    Unset,
    Text(&'static str),
    /// Contains the name of the program.
    Derived(fn(&Identity) -> String),
}

impl SettingDefinition {
    /// The value is one of these words.
    const fn one_of(self, words: &'static [&'static str]) -> Self {
        Self {
            value: SettingValue::OneOf(words),
            ..self
        }
    }

    /// The value is the path of a file.
    const fn file(self) -> Self {
        Self {
            value: SettingValue::File,
            ..self
        }
    }

    /// The value is the path of a directory.
    const fn directory(self) -> Self {
        Self {
            value: SettingValue::Directory,
            ..self
        }
    }

    /// The variables of the environment and of `.env` that set it.
    pub fn variables(&self) -> impl Iterator<Item = &'static str> {
        [Some(self.name), self.file_variable].into_iter().flatten()
    }

    /// The value if it is not set, or `None` if there is none.
    #[must_use]
    pub fn default_text(&self) -> Option<Cow<'static, str>> {
        match self.default {
            Unset => None,
            Text(text) => Some(text.into()),
            Derived(derive) => Some(derive(identity()).into()),
        }
    }
}

/// The long flag of a setting: `LOG_MAX_SIZE` is `--log-max-size`.
#[must_use]
pub fn flag_name(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

/// The step that activates a new value of the setting `name`.
#[must_use]
pub fn activation(name: &str) -> Activation {
    let mut settings = DEFINITIONS.iter();
    match settings.find(|setting| setting.name == name) {
        Some(setting) if setting.is_reloadable => Activation::Reload,
        Some(setting) if setting.name == "PID_FILE" => Activation::Start,
        _ => Activation::Restart,
    }
}

/// A setting that only a restart changes.
const fn setting(
    name: &'static str,
    default: DefaultValue,
    help: &'static str,
) -> SettingDefinition {
    SettingDefinition {
        name,
        is_secret: false,
        file_variable: None,
        is_reloadable: false,
        help,
        value: SettingValue::Text,
        default,
    }
}

/// A secret, which a reload activates.
const fn secret(
    name: &'static str,
    file_variable: &'static str,
    help: &'static str,
) -> SettingDefinition {
    SettingDefinition {
        is_secret: true,
        file_variable: Some(file_variable),
        is_reloadable: true,
        ..setting(name, Unset, help)
    }
}

/// A setting that a reload activates.
const fn reloadable(setting: SettingDefinition) -> SettingDefinition {
    SettingDefinition {
        is_reloadable: true,
        ..setting
    }
}

/// All settings in the order in which they are shown.
pub const DEFINITIONS: [SettingDefinition; 56] = [
    setting(
        "HOST",
        Text("0.0.0.0"),
        "Address of the public port: an IP address, or localhost",
    ),
    setting("PORT", Text("8000"), "Public port; 0 picks a free port"),
    setting(
        "ADMIN_HOST",
        Text("127.0.0.1"),
        "Address of the admin port; only loopback addresses are allowed",
    ),
    setting(
        "ADMIN_PORT",
        Text("8001"),
        "Admin port; 0 picks a free port",
    ),
    reloadable(setting(
        "ADMIN_ORIGINS",
        Unset,
        "Origins of the console behind a TLS proxy, such as https://fullon.example.com, separated by commas",
    )),
    reloadable(setting(
        "TRUSTED_PROXIES",
        Unset,
        "Proxies that say which client sent a request: addresses and networks such as 10.0.0.0/8, separated by commas",
    )),
    setting(
        "APP_COMMAND",
        Unset,
        "Command line of the application, such as `uvicorn app:app --fd {fd}`; {fd} is a listening socket, {socket} and {port} are addresses to listen on, and no shell runs",
    ),
    setting(
        "APP_DIRECTORY",
        Unset,
        "Working directory of the application; the directory that the daemon was started in if not set",
    )
    .directory(),
    reloadable(setting(
        "APP_WORKERS",
        Text("1"),
        "Number of worker processes that run the application, 1 to 1000; auto is one for each core, or the CPU quota of the cgroup",
    ))
    .one_of(&["auto"]),
    setting(
        "APP_READY_PATH",
        Unset,
        "Path that returns 2xx or 3xx once a worker is ready, such as /ready; any response to GET / is enough if not set",
    ),
    reloadable(setting(
        "APP_START_TIMEOUT",
        Text("30s"),
        "Time for a worker to become ready, 100ms to 30m",
    )),
    reloadable(setting(
        "APP_STOP_TIMEOUT",
        Text("10s"),
        "Time for a worker to exit after SIGTERM until it is killed with all its processes, 0s to 1h",
    )),
    reloadable(setting(
        "APP_TIMEOUT",
        Text("60s"),
        "Time for a worker to begin its response, 0s to 1d; then the client gets status 504; 0 is no limit",
    )),
    reloadable(setting(
        "APP_QUEUE_TIMEOUT",
        Text("5s"),
        "Time that a request waits for a ready worker, 0s to 1h; then the client gets status 503",
    )),
    reloadable(setting(
        "LOG_LEVEL",
        Text("INFO"),
        "Log level (ERROR, WARN, INFO, DEBUG, TRACE, OFF), or a tracing filter such as info,hyper=debug",
    ))
    .one_of(&["ERROR", "WARN", "INFO", "DEBUG", "TRACE", "OFF"]),
    setting(
        "LOG_FORMAT",
        Text("text"),
        "Format of the log lines: text or json",
    )
    .one_of(&["text", "json"]),
    setting(
        "LOG_FILE",
        Derived(Identity::log_file),
        "Log file; `-` writes the log to stdout, for a daemon in the foreground",
    )
    .file(),
    reloadable(setting(
        "LOG_MAX_SIZE",
        Text("100MiB"),
        "Size at which the log file is rotated, at least 64KiB; 0 disables rotation, for logrotate",
    )),
    reloadable(setting(
        "LOG_KEEP",
        Text("5"),
        "Number of rotated log files to keep, 0 to 1000",
    )),
    reloadable(setting(
        "LOG_MODE",
        Unset,
        "Mode of the log file, such as 0640; if not set, a new file has 0600, and an existing one keeps its mode unless all users can read it",
    )),
    setting(
        "AUDIT_FILE",
        Unset,
        "Audit file, the record of requested changes; LOG_FILE with `.audit` appended if not set, and none with LOG_FILE=-",
    )
    .file(),
    setting(
        "PID_FILE",
        Derived(Identity::pid_file),
        "PID file, locked while the daemon runs; to change it, stop the daemon and start it again",
    )
    .file(),
    reloadable(setting(
        "SHUTDOWN_TIMEOUT",
        Text("10s"),
        "Time for requests in flight to finish when the daemon stops, 0s to 1h",
    )),
    reloadable(setting(
        "DRAIN_DELAY",
        Text("0s"),
        "Time to keep serving before a stop while health checks return 503, 0s to 5m; SHUTDOWN_TIMEOUT starts after it",
    )),
    secret(
        "JWT_SECRET_KEY",
        "JWT_SECRET_KEY_FILE",
        "Signing key for admin API tokens (HS256), at least 32 bytes that cannot be guessed; if not set, a key is created and stored in the key file",
    ),
    reloadable(setting(
        "JWT_SECRET_KEY_GRACE",
        Text("10m"),
        "Grace period: how long the previous signing key stays valid after a change, 0s to 1d",
    )),
    setting(
        "FAILED_TOKENS_PER_MINUTE",
        Text("60"),
        "Invalid tokens that a client may send in a minute, 1 to 1000000; further ones get status 429, valid tokens are always accepted",
    ),
    setting(
        "HEADER_TIMEOUT",
        Text("10s"),
        "Time for a client to send the request headers, 100ms to 1h",
    ),
    setting(
        "BODY_TIMEOUT",
        Text("30s"),
        "Time for a client to send the request body, 100ms to 1h",
    ),
    setting(
        "IDLE_TIMEOUT",
        Text("75s"),
        "Time until an idle connection is closed, or one whose client does not read its response, 100ms to 1h",
    ),
    setting(
        "MAX_HEADER_SIZE",
        Text("16KiB"),
        "Maximum size of the request headers, 8KiB to 1MiB",
    ),
    setting(
        "MAX_BODY_SIZE",
        Text("1MiB"),
        "Maximum size of the request body, 1KiB to 1GiB",
    ),
    setting(
        "MAX_CONNECTIONS",
        Text("10000"),
        "Maximum number of connections to the public port, 1 to 1000000; the limit of open files (`ulimit -n`) can lower it",
    ),
    setting(
        "ADMIN_MAX_CONNECTIONS",
        Text("10000"),
        "Maximum number of connections to the admin port, 1 to 1000000; the limit of open files can lower it",
    ),
    secret(
        "DATABASE_URL",
        "DATABASE_URL_FILE",
        "PostgreSQL as a URL, such as postgres://USER:PASSWORD@HOST:5432/NAME?sslmode=verify-full; enables the health check of PostgreSQL",
    ),
    reloadable(setting(
        "DB_HOST",
        Text("localhost"),
        "PostgreSQL host: a name, an IP address, the directory of a Unix socket, or several of them, separated by commas",
    )),
    reloadable(setting(
        "DB_PORT",
        Text("5432"),
        "PostgreSQL port, 1 to 65535; for several hosts one, or one for each",
    )),
    reloadable(setting(
        "DB_USER",
        Unset,
        "PostgreSQL user; the system user if not set",
    )),
    secret("DB_PASSWORD", "DB_PASSWORD_FILE", "PostgreSQL password"),
    reloadable(setting(
        "DB_NAME",
        Unset,
        "PostgreSQL database; enables the health check of PostgreSQL",
    )),
    reloadable(setting(
        "DB_SSLMODE",
        Text("prefer"),
        "TLS to PostgreSQL: disable, allow, prefer, require (does not verify the certificate), verify-ca (verifies who signed it) or verify-full (verifies its host name, too)",
    ))
    .one_of(&["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]),
    reloadable(setting(
        "DB_SSLROOTCERT",
        Unset,
        "PEM file with CA certificates for verify-ca and verify-full; for verify-full the CA certificates of the system if not set",
    ))
    .file(),
    reloadable(setting(
        "DB_SSLCERT",
        Unset,
        "PEM file with the client certificate for PostgreSQL and its chain",
    ))
    .file(),
    reloadable(setting(
        "DB_SSLKEY",
        Unset,
        "PEM file with the private key of DB_SSLCERT, not encrypted",
    ))
    .file(),
    secret(
        "REDIS_URL",
        "REDIS_URL_FILE",
        "Redis as a URL, such as rediss://USER:PASSWORD@HOST:6379/0, redis://… without TLS, or unix:///SOCKET?db=0; enables the health check of Redis",
    ),
    reloadable(setting(
        "REDIS_HOST",
        Unset,
        "Redis host: a name, an IP address, or the path of a Unix socket; enables the health check of Redis",
    )),
    reloadable(setting(
        "REDIS_PORT",
        Text("6379"),
        "Redis port, 1 to 65535",
    )),
    reloadable(setting(
        "REDIS_USERNAME",
        Unset,
        "Redis ACL user; the default user if not set",
    )),
    secret("REDIS_PASSWORD", "REDIS_PASSWORD_FILE", "Redis password"),
    reloadable(setting(
        "REDIS_DB",
        Text("0"),
        "Number of the Redis database",
    )),
    reloadable(setting(
        "REDIS_TLS",
        Text("off"),
        "TLS to Redis: off, or on (verifies the certificate and its host name)",
    ))
    .one_of(&["off", "on"]),
    reloadable(setting(
        "REDIS_CACERT",
        Unset,
        "PEM file with CA certificates for REDIS_TLS=on; the CA certificates of the system if not set",
    ))
    .file(),
    reloadable(setting(
        "REDIS_CERT",
        Unset,
        "PEM file with the client certificate for Redis and its chain",
    ))
    .file(),
    reloadable(setting(
        "REDIS_KEY",
        Unset,
        "PEM file with the private key of REDIS_CERT, not encrypted",
    ))
    .file(),
    reloadable(setting(
        "CHECK_INTERVAL",
        Text("5s"),
        "Time between two health checks of PostgreSQL or Redis, 500ms to 1h",
    )),
    reloadable(setting(
        "CHECK_TIMEOUT",
        Text("1s"),
        "Time for PostgreSQL or Redis to answer a health check, 50ms to 1m, at most half of CHECK_INTERVAL",
    )),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_secret_can_be_in_a_file() {
        for definition in &DEFINITIONS {
            let expected = definition
                .is_secret
                .then(|| format!("{}_FILE", definition.name));
            assert_eq!(definition.file_variable, expected.as_deref());
        }
    }
}

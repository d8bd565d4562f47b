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
    /// Whether a reload activates a new value; otherwise that needs a restart.
    pub is_reloadable: bool,
    /// One line for help texts.
    pub help: &'static str,
    default: DefaultValue,
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

/// Whether a reload activates a new value of the setting `name`.
#[must_use]
pub fn is_reloadable(name: &str) -> bool {
    DEFINITIONS
        .iter()
        .any(|setting| setting.name == name && setting.is_reloadable)
}

/// A setting that takes a restart.
const fn setting(
    name: &'static str,
    default: DefaultValue,
    help: &'static str,
) -> SettingDefinition {
    SettingDefinition {
        name,
        is_secret: false,
        is_reloadable: false,
        help,
        default,
    }
}

/// A secret, which a reload activates.
const fn secret(name: &'static str, help: &'static str) -> SettingDefinition {
    SettingDefinition {
        is_secret: true,
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
pub const DEFINITIONS: [SettingDefinition; 36] = [
    setting("HOST", Text("0.0.0.0"), "address of the public listener"),
    setting(
        "PORT",
        Text("8000"),
        "port of the public listener; 0 takes a free one",
    ),
    setting(
        "ADMIN_HOST",
        Text("127.0.0.1"),
        "address of the admin listener; loopback only",
    ),
    setting(
        "ADMIN_PORT",
        Text("8001"),
        "port of the admin listener; 0 takes a free one",
    ),
    reloadable(setting(
        "LOG_LEVEL",
        Text("INFO"),
        "a level (ERROR, WARN, INFO, DEBUG, TRACE) or a tracing filter directive",
    )),
    setting("LOG_FORMAT", Text("text"), "text or json"),
    setting(
        "LOG_FILE",
        Derived(Identity::log_file),
        "the log file; - is stdout",
    ),
    reloadable(setting(
        "LOG_MAX_SIZE",
        Text("100MiB"),
        "size at which the log is rotated, at least 64KiB; 0 leaves it to logrotate",
    )),
    reloadable(setting(
        "LOG_KEEP",
        Text("5"),
        "how many rotated files are kept, 0 to 1000",
    )),
    setting(
        "PID_FILE",
        Derived(Identity::pid_file),
        "the PID file, locked while the daemon lives",
    ),
    reloadable(setting(
        "SHUTDOWN_TIMEOUT",
        Text("10s"),
        "how long requests in flight may take once stopping, up to 1h",
    )),
    reloadable(setting(
        "DRAIN_DELAY",
        Text("0s"),
        "how long the listeners go on serving once stopping, while health says 503, up to 5m; SHUTDOWN_TIMEOUT begins after it",
    )),
    secret(
        "JWT_SECRET_KEY",
        "HS256 secret of the admin API, at least 32 bytes",
    ),
    reloadable(setting(
        "JWT_SECRET_KEY_GRACE",
        Text("10m"),
        "how long the key before still counts once it was changed, 0 to 1d",
    )),
    setting(
        "FAILED_TOKENS_PER_MINUTE",
        Text("60"),
        "tokens that do not count after which a peer gets 429 for a minute, 1 to 1000000; one that counts is always accepted",
    ),
    setting(
        "HEADER_TIMEOUT",
        Text("10s"),
        "how long a client may take to send the head of a request, 100ms to 1h",
    ),
    setting(
        "BODY_TIMEOUT",
        Text("30s"),
        "how long a client may take to send the body of a request, 100ms to 1h",
    ),
    setting(
        "IDLE_TIMEOUT",
        Text("75s"),
        "how long a connection is kept without a request, or for a client that does not read its answer, 100ms to 1h",
    ),
    setting(
        "MAX_HEADER_SIZE",
        Text("16KiB"),
        "largest head of a request, 8KiB to 1MiB",
    ),
    setting(
        "MAX_BODY_SIZE",
        Text("1MiB"),
        "largest body of a request, 1KiB to 1GiB",
    ),
    setting(
        "MAX_CONNECTIONS",
        Text("10000"),
        "connections to the public port at once, 1 to 1000000; fewer where `ulimit -n` asks for it",
    ),
    setting(
        "ADMIN_MAX_CONNECTIONS",
        Text("10000"),
        "the same for the admin port, which has descriptors of its own",
    ),
    reloadable(setting(
        "DB_HOST",
        Text("localhost"),
        "PostgreSQL host, used when DB_NAME is set",
    )),
    reloadable(setting("DB_PORT", Text("5432"), "PostgreSQL port")),
    reloadable(setting(
        "DB_USER",
        Unset,
        "PostgreSQL user; the system's user when not set",
    )),
    secret("DB_PASSWORD", "PostgreSQL password"),
    reloadable(setting(
        "DB_NAME",
        Unset,
        "PostgreSQL database; health checks it when set",
    )),
    reloadable(setting(
        "DB_SSLMODE",
        Text("disable"),
        "disable, require (encrypted, whoever answers) or verify-full (encrypted, and the certificate is the host's)",
    )),
    reloadable(setting(
        "DB_SSLROOTCERT",
        Unset,
        "PEM file of who may sign PostgreSQL's certificate, with verify-full; the system's authorities when not set",
    )),
    reloadable(setting(
        "REDIS_HOST",
        Unset,
        "Redis host; health checks it when set",
    )),
    reloadable(setting("REDIS_PORT", Text("6379"), "Redis port")),
    secret("REDIS_PASSWORD", "Redis password"),
    reloadable(setting(
        "REDIS_TLS",
        Text("off"),
        "off, or on (encrypted, and the certificate is the host's)",
    )),
    reloadable(setting(
        "REDIS_CACERT",
        Unset,
        "PEM file of who may sign the certificate of Redis, with REDIS_TLS=on; the system's authorities when not set",
    )),
    reloadable(setting(
        "CHECK_INTERVAL",
        Text("5s"),
        "how often PostgreSQL and Redis are asked, 500ms to 1h",
    )),
    reloadable(setting(
        "CHECK_TIMEOUT",
        Text("1s"),
        "how long they may take to answer, 50ms to 1m, at most half of CHECK_INTERVAL",
    )),
];

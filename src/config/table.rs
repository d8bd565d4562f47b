//! The one list of settings. Parsing, flags, `fullon config`, the manual page and `.env.example` follow it.

/// A setting's name, default and meaning.
#[derive(Debug, Clone, Copy)]
pub struct SettingDefinition {
    /// Name in the environment and in `.env`.
    pub name: &'static str,
    /// Value when nobody sets it; `None` when there is none or when it is made at run time.
    pub default: Option<&'static str>,
    /// Secrets are masked wherever they are shown, and have no flag: arguments are visible to other users.
    pub is_secret: bool,
    /// Whether `reload` puts it in force; otherwise that takes a restart.
    pub is_reloadable: bool,
    /// One line for help texts.
    pub help: &'static str,
}

/// The long flag of a setting: `LOG_MAX_SIZE` is `--log-max-size`.
#[must_use]
pub fn flag_name(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

/// Whether a reload puts the setting of this name in force.
#[must_use]
pub fn is_reloadable(name: &str) -> bool {
    let mut reloading = DEFINITIONS.iter().filter(|setting| setting.is_reloadable);
    reloading.any(|setting| setting.name == name)
}

const fn setting(
    name: &'static str,
    default: Option<&'static str>,
    help: &'static str,
) -> SettingDefinition {
    SettingDefinition {
        name,
        default,
        is_secret: false,
        is_reloadable: false,
        help,
    }
}

const fn secret(name: &'static str, help: &'static str) -> SettingDefinition {
    SettingDefinition {
        name,
        default: None,
        is_secret: true,
        is_reloadable: true,
        help,
    }
}

/// A setting that `reload` puts in force.
const fn reloadable(setting: SettingDefinition) -> SettingDefinition {
    SettingDefinition {
        is_reloadable: true,
        ..setting
    }
}

/// Every setting, in the order in which they are shown.
pub const DEFINITIONS: [SettingDefinition; 36] = [
    setting("HOST", Some("0.0.0.0"), "address of the public listener"),
    setting(
        "PORT",
        Some("8000"),
        "port of the public listener; 0 takes a free one",
    ),
    setting(
        "ADMIN_HOST",
        Some("127.0.0.1"),
        "address of the admin listener; loopback only",
    ),
    setting(
        "ADMIN_PORT",
        Some("8001"),
        "port of the admin listener; 0 takes a free one",
    ),
    reloadable(setting(
        "LOG_LEVEL",
        Some("INFO"),
        "a level (ERROR, WARN, INFO, DEBUG, TRACE) or a tracing filter directive",
    )),
    setting("LOG_FORMAT", Some("text"), "text or json"),
    setting(
        "LOG_FILE",
        Some("/tmp/fullon_master_api.log"),
        "the log file; - is stdout",
    ),
    reloadable(setting(
        "LOG_MAX_SIZE",
        Some("100MiB"),
        "size at which the log is rotated, at least 64KiB; 0 leaves it to logrotate",
    )),
    reloadable(setting(
        "LOG_KEEP",
        Some("5"),
        "how many rotated files are kept, 0 to 1000",
    )),
    setting(
        "PID_FILE",
        Some("~/.fullon_master_api.pid"),
        "the PID file, locked while the daemon lives",
    ),
    reloadable(setting(
        "SHUTDOWN_TIMEOUT",
        Some("10s"),
        "how long requests in flight may take once stopping, up to 1h",
    )),
    reloadable(setting(
        "DRAIN_DELAY",
        Some("0s"),
        "how long the listeners go on serving once stopping, while health says 503, up to 5m; SHUTDOWN_TIMEOUT begins after it",
    )),
    secret(
        "JWT_SECRET_KEY",
        "HS256 secret of the admin API, at least 32 bytes",
    ),
    reloadable(setting(
        "JWT_SECRET_KEY_GRACE",
        Some("10m"),
        "how long the key before still counts once it was changed, 0 to 1d",
    )),
    setting(
        "FAILED_TOKENS_PER_MINUTE",
        Some("60"),
        "tokens that do not count after which a peer gets 429 for a minute, 1 to 1000000; one that counts is always accepted",
    ),
    setting(
        "HEADER_TIMEOUT",
        Some("10s"),
        "how long a client may take to send the head of a request, 100ms to 1h",
    ),
    setting(
        "BODY_TIMEOUT",
        Some("30s"),
        "how long a client may take to send the body of a request, 100ms to 1h",
    ),
    setting(
        "IDLE_TIMEOUT",
        Some("75s"),
        "how long a connection is kept without a request, or for a client that does not read its answer, 100ms to 1h",
    ),
    setting(
        "MAX_HEADER_SIZE",
        Some("16KiB"),
        "largest head of a request, 8KiB to 1MiB",
    ),
    setting(
        "MAX_BODY_SIZE",
        Some("1MiB"),
        "largest body of a request, 1KiB to 1GiB",
    ),
    setting(
        "MAX_CONNECTIONS",
        Some("10000"),
        "connections to the public port at once, 1 to 1000000; fewer where `ulimit -n` asks for it",
    ),
    setting(
        "ADMIN_MAX_CONNECTIONS",
        Some("10000"),
        "the same for the admin port, which has descriptors of its own",
    ),
    reloadable(setting(
        "DB_HOST",
        Some("localhost"),
        "PostgreSQL host, used when DB_NAME is set",
    )),
    reloadable(setting("DB_PORT", Some("5432"), "PostgreSQL port")),
    reloadable(setting(
        "DB_USER",
        None,
        "PostgreSQL user; the system's user when not set",
    )),
    secret("DB_PASSWORD", "PostgreSQL password"),
    reloadable(setting(
        "DB_NAME",
        None,
        "PostgreSQL database; health checks it when set",
    )),
    reloadable(setting(
        "DB_SSLMODE",
        Some("disable"),
        "disable, require (encrypted, whoever answers) or verify-full (encrypted, and the certificate is the host's)",
    )),
    reloadable(setting(
        "DB_SSLROOTCERT",
        None,
        "PEM file of who may sign PostgreSQL's certificate, with verify-full; the system's authorities when not set",
    )),
    reloadable(setting(
        "REDIS_HOST",
        None,
        "Redis host; health checks it when set",
    )),
    reloadable(setting("REDIS_PORT", Some("6379"), "Redis port")),
    secret("REDIS_PASSWORD", "Redis password"),
    reloadable(setting(
        "REDIS_TLS",
        Some("off"),
        "off, or on (encrypted, and the certificate is the host's)",
    )),
    reloadable(setting(
        "REDIS_CACERT",
        None,
        "PEM file of who may sign the certificate of Redis, with REDIS_TLS=on; the system's authorities when not set",
    )),
    reloadable(setting(
        "CHECK_INTERVAL",
        Some("5s"),
        "how often PostgreSQL and Redis are asked, 500ms to 1h",
    )),
    reloadable(setting(
        "CHECK_TIMEOUT",
        Some("1s"),
        "how long they may take to answer, 50ms to 1m, at most half of CHECK_INTERVAL",
    )),
];

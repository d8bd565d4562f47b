//! The one list of settings. Parsing, flags, `fullon config`, the manual page and `.env.example` follow it.

/// A setting's name, default and meaning.
#[derive(Debug, Clone, Copy)]
pub struct Definition {
    /// Name in the environment and in `.env`.
    pub name: &'static str,
    /// Value when nobody sets it; `None` when there is none or when it is made at run time.
    pub default: Option<&'static str>,
    /// Secrets are masked wherever they are shown, and have no flag: arguments are visible to other users.
    pub secret: bool,
    /// Whether `reload` puts it in force; otherwise that takes a restart.
    pub reloads: bool,
    /// One line for help texts.
    pub help: &'static str,
}

/// The long flag of a setting: `LOG_MAX_SIZE` is `--log-max-size`.
#[must_use]
pub fn flag(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

const fn setting(
    name: &'static str,
    default: Option<&'static str>,
    help: &'static str,
) -> Definition {
    Definition {
        name,
        default,
        secret: false,
        reloads: false,
        help,
    }
}

const fn secret(name: &'static str, help: &'static str) -> Definition {
    Definition {
        name,
        default: None,
        secret: true,
        reloads: true,
        help,
    }
}

/// A setting that `reload` puts in force.
const fn in_place(setting: Definition) -> Definition {
    Definition {
        reloads: true,
        ..setting
    }
}

/// Every setting, in the order in which they are shown.
pub const DEFINITIONS: [Definition; 20] = [
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
    in_place(setting(
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
    in_place(setting(
        "LOG_MAX_SIZE",
        Some("100MiB"),
        "size at which the log is rotated, at least 64KiB; 0 leaves it to logrotate",
    )),
    in_place(setting(
        "LOG_KEEP",
        Some("5"),
        "how many rotated files are kept, 0 to 1000",
    )),
    setting(
        "PID_FILE",
        Some("~/.fullon_master_api.pid"),
        "the PID file, locked while the daemon lives",
    ),
    in_place(setting(
        "SHUTDOWN_TIMEOUT",
        Some("10s"),
        "how long requests in flight may take once stopping, up to 1h",
    )),
    secret(
        "JWT_SECRET_KEY",
        "HS256 secret of the admin API, at least 32 bytes",
    ),
    in_place(setting(
        "DB_HOST",
        Some("localhost"),
        "PostgreSQL host, used when DB_NAME is set (not in force yet)",
    )),
    in_place(setting(
        "DB_PORT",
        Some("5432"),
        "PostgreSQL port (not in force yet)",
    )),
    in_place(setting(
        "DB_USER",
        None,
        "PostgreSQL user (not in force yet)",
    )),
    secret("DB_PASSWORD", "PostgreSQL password (not in force yet)"),
    in_place(setting(
        "DB_NAME",
        None,
        "PostgreSQL database; health checks it when set (not in force yet)",
    )),
    in_place(setting(
        "REDIS_HOST",
        None,
        "Redis host; health checks it when set (not in force yet)",
    )),
    in_place(setting(
        "REDIS_PORT",
        Some("6379"),
        "Redis port (not in force yet)",
    )),
    secret("REDIS_PASSWORD", "Redis password (not in force yet)"),
];

//! Fuzz targets of the `.env` file, of settings and of the URLs of the dependencies.

#![expect(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "a broken promise has to panic"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use bytesize::ByteSize;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::database_url::{DatabaseUrl, SessionKind};
use super::env_file::parse_env_file;
use super::redis_url::RedisUrl;
use super::secret::Secret;
use super::server_address::ServerHost;
use super::{DEFINITIONS, EnvFileChoice, Flags, InvalidSettings, MASK, Settings, Sources};

/// An `.env` file.
pub fn env_file(bytes: &[u8]) {
    const HOME: &str = "/home/me";
    /// The limit for expanded references.
    const MAX_ADDED: usize = 1024 * 1024;
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let environment = |name: &str| (name == "HOME").then(|| HOME.to_owned());
    let (values, errors) = parse_env_file(text, environment);

    assert!(errors.is_sorted_by(|a, b| a.line < b.line));
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let lines = 1..=text.lines().count();
    assert!(errors.iter().all(|error| lines.contains(&error.line)));
    let mut written = String::new();
    let mut length = 0;
    for (name, value) in &values {
        length += value.len();
        let value = value.replace('\\', "\\\\").replace('\'', "\\'");
        // A name in quotes has no quote in it.
        let quote = if name.contains('\'') { "" } else { "'" };
        writeln!(written, "{quote}{name}{quote}='{value}'").unwrap();
    }
    assert!(length <= text.len() + MAX_ADDED);
    let (read, errors) = parse_env_file(&written, environment);
    assert_eq!((read, errors.len()), (values, 0));
}

/// A `DATABASE_URL`. A URL with the same parts as parameters has the same meaning, and an error
/// shows nothing of the credentials.
pub fn database_url(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let url = match DatabaseUrl::parse(text) {
        Ok(url) => url,
        Err(error) => return assert_hides_credentials(text, &error),
    };
    assert!(!url.ports.contains(&0));
    let hosts: Vec<_> = url.hosts.iter().map(|(host, _)| host.to_string()).collect();
    if hosts
        .iter()
        .any(|host| host.is_empty() || host.contains(','))
    {
        return;
    }
    let ports: Vec<_> = url.ports.iter().map(u16::to_string).collect();
    let addresses = url.hosts.iter().filter_map(|(_, address)| *address);
    let addresses: Vec<_> = addresses.map(|address| address.to_string()).collect();
    let session = match url.session {
        SessionKind::Any => "any",
        SessionKind::ReadWrite => "read-write",
        SessionKind::ReadOnly => "read-only",
    };
    let password = url.password.as_ref().map(Secret::expose);
    let is_random = url.is_order_random.then_some("random");
    let parameters = [
        ("host", non_empty(&hosts).as_deref()),
        ("hostaddr", non_empty(&addresses).as_deref()),
        ("port", non_empty(&ports).as_deref()),
        ("user", url.user.as_deref()),
        ("password", password),
        ("dbname", url.name.as_deref()),
        ("options", url.options.as_deref()),
        ("application_name", url.application_name.as_deref()),
        ("target_session_attrs", Some(session)),
        ("load_balance_hosts", is_random),
        ("sslmode", url.ssl_mode.as_deref()),
        ("sslrootcert", url.ssl_root_certificate.as_deref()),
        ("sslcert", url.ssl_certificate.as_deref()),
        ("sslkey", url.ssl_key.as_deref()),
    ]
    .map(|(name, value)| value.map(|value| format!("{name}={}", encode(value))));
    let parameters: Vec<_> = parameters.into_iter().flatten().collect();
    let again = DatabaseUrl::parse(&format!("postgres:///?{}", parameters.join("&")));
    let again = again.unwrap();
    assert_eq!(format!("{again:?}"), format!("{url:?}"));
    assert_eq!(again.password.as_ref().map(Secret::expose), password);
}

/// A `REDIS_URL`, in the same way.
pub fn redis_url(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let url = match RedisUrl::parse(text) {
        Ok(url) => url,
        Err(error) => return assert_hides_credentials(text, &error),
    };
    assert_ne!(url.port, Some(0));
    let (scheme, host) = match (&url.host, url.is_encrypted) {
        (ServerHost::Socket(path), is_encrypted) => {
            assert!(!is_encrypted);
            ("unix", encode_path(path.to_str().unwrap()))
        }
        (host, is_encrypted) => {
            let host = host.to_string();
            assert!(!host.is_empty());
            let host = if host.contains(':') {
                format!("[{host}]")
            } else {
                encode(&host)
            };
            (if is_encrypted { "rediss" } else { "redis" }, host)
        }
    };
    let port = url.port.map(|port| format!(":{port}")).unwrap_or_default();
    let password = url.password.as_ref().map(Secret::expose);
    let database = url.database.map(|database| database.to_string());
    let parameters = [
        ("user", url.user.as_deref()),
        ("password", password),
        ("db", database.as_deref()),
    ]
    .map(|(name, value)| value.map(|value| format!("{name}={}", encode(value))));
    let parameters: Vec<_> = parameters.into_iter().flatten().collect();
    let again = format!("{scheme}://{host}{port}?{}", parameters.join("&"));
    let again = RedisUrl::parse(&again).unwrap();
    assert_eq!(format!("{again:?}"), format!("{url:?}"));
    assert_eq!(again.password.as_ref().map(Secret::expose), password);
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn encode_path(path: &str) -> String {
    path.split('/').map(encode).collect::<Vec<_>>().join("/")
}

fn non_empty(values: &[String]) -> Option<String> {
    (!values.is_empty()).then(|| values.join(","))
}

/// The credentials, before the last `@`, are not shown. A few letters may be there by chance.
fn assert_hides_credentials(text: &str, error: &str) {
    let credentials = text.rsplit_once('@').map_or("", |(before, _)| before);
    let credentials = credentials.split_once("://").map_or("", |(_, rest)| rest);
    for part in credentials.split(':').filter(|part| part.len() > 8) {
        let by_chance = ["USER:PASSWORD", "HOST:PORT/DATABASE"].concat();
        assert!(!error.contains(part) || by_chance.contains(part), "{error}");
    }
}

/// Settings, one `NAME=TEXT` a line.
pub fn settings(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let flags: Flags = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    // Problems of secrets do not quote them. Only whether a signing key is weak, and the parts of a
    // URL, depend on their text.
    let mut hidden = flags.clone();
    for definition in DEFINITIONS.iter().filter(|definition| definition.is_secret) {
        if let Some(value) = hidden.get_mut(definition.name)
            && !["JWT_SECRET_KEY", "DATABASE_URL", "REDIS_URL"].contains(&definition.name)
        {
            *value = "x".repeat(value.len());
        }
    }
    let (loaded, hidden) = (load(&flags), load(&hidden));
    match (loaded, hidden) {
        (Ok(settings), Ok(hidden)) => {
            assert_eq!(settings.entries(), hidden.entries());
            assert!(settings.admin.ip().is_loopback());
            assert!(settings.shutdown_timeout.as_secs() <= 3600);
            let size = settings.log.max_size;
            assert!(size == ByteSize(0) || size >= ByteSize::kib(64));
            for (entry, definition) in settings.entries().iter().zip(&DEFINITIONS) {
                let value = entry.value.as_deref();
                assert!(!definition.is_secret || value.is_none_or(|value| value == MASK));
            }
        }
        (Err(problems), Err(hidden)) => assert_eq!(problems.to_string(), hidden.to_string()),
        (loaded, _) => panic!("validity depends on the characters of a secret: {loaded:?}"),
    }
}

fn load(flags: &Flags) -> Result<Settings, InvalidSettings> {
    let file = EnvFileChoice::Explicit("/dev/null".into());
    Settings::load(&Sources::read(
        flags,
        &file,
        Path::new("/"),
        &BTreeMap::new(),
    ))
}

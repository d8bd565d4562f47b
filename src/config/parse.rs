//! From the text of one setting to its value. The error says what would be right and, for a setting that
//! is not secret, what was found.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use tracing_subscriber::EnvFilter;

use super::Secret;
use super::sources::Sources;

/// The format of the daemon's own log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// `TIMESTAMP LEVEL target: message key=value`
    Text,
    /// One JSON object a line.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("`{text}` is neither text nor json")),
        }
    }
}

/// Where log lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    /// `LOG_FILE=-`
    Stdout,
    /// An absolute path.
    File(PathBuf),
}

impl LogTarget {
    /// The file, if lines go to one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Stdout => None,
            Self::File(path) => Some(path),
        }
    }
}

pub fn host(text: &str) -> Result<IpAddr, String> {
    if text == "localhost" {
        return Ok(Ipv4Addr::LOCALHOST.into());
    }
    text.trim_start_matches('[')
        .trim_end_matches(']')
        .parse()
        .map_err(|_| format!("`{text}` is not an IP address or localhost"))
}

pub fn loopback(text: &str) -> Result<IpAddr, String> {
    let address = host(text)?;
    if address.is_loopback() {
        Ok(address)
    } else {
        Err(format!(
            "`{text}` is not a loopback address: the admin API is reached from elsewhere through a tunnel (ssh -L)"
        ))
    }
}

pub fn port(text: &str) -> Result<u16, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is not a port number (0 to 65535, 0 for any free one)"))
}

pub fn dependency_port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err(format!("`{text}` is not a port number (1 to 65535)")),
        Ok(port) => Ok(port),
    }
}

/// A name or an address, which may be in brackets.
pub fn dependency_host(text: &str) -> Result<String, String> {
    let host = text.trim_start_matches('[').trim_end_matches(']');
    let is_odd = |c: char| c.is_whitespace() || c.is_control() || c == '/';
    if host.is_empty() || host.contains(is_odd) {
        return Err(format!("`{text}` is not the name or address of a host"));
    }
    Ok(host.to_owned())
}

/// How a connection to PostgreSQL is encrypted, by libpq's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslMode {
    /// Not at all.
    Disable,
    /// Whoever answers.
    Require,
    /// Whoever proves to be the host.
    VerifyFull,
}

pub fn ssl_mode(text: &str) -> Result<SslMode, String> {
    match text {
        "disable" => Ok(SslMode::Disable),
        "require" => Ok(SslMode::Require),
        "verify-full" => Ok(SslMode::VerifyFull),
        _ => Err(format!(
            "`{text}` is none of disable, require and verify-full"
        )),
    }
}

pub fn on_or_off(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(format!("`{text}` is neither on nor off")),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "any text will do")]
pub fn any_text(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

#[expect(clippy::unnecessary_wraps, reason = "any text will do")]
pub fn password(text: &str) -> Result<Secret, String> {
    Ok(Secret::new(text.to_owned()))
}

/// A tracing filter out of a level (Python's names too), or of `target=level` directives. Directives
/// without a level of their own for everything else get `info`.
///
/// # Errors
///
/// It is none; what would be one.
pub fn log_filter(text: &str) -> Result<String, String> {
    let expected = || {
        format!(
            "`{text}` is neither a level (ERROR, WARN, INFO, DEBUG, TRACE, OFF) nor directives such as info,hyper=debug"
        )
    };
    let mut directives = Vec::new();
    let mut has_level = false;
    for part in text.split(',').map(str::trim) {
        let directive = match part.to_ascii_lowercase().as_str() {
            "warning" => "warn".to_owned(),
            "critical" | "fatal" => "error".to_owned(),
            level @ ("error" | "warn" | "info" | "debug" | "trace" | "off") => level.to_owned(),
            // EnvFilter takes a bare word for a target and would silence everything else.
            other if other.contains('=') => {
                directives.push(part.to_owned());
                continue;
            }
            _ => return Err(expected()),
        };
        has_level = true;
        directives.push(directive);
    }
    if !has_level {
        directives.insert(0, "info".into());
    }
    let filter = directives.join(",");
    // As the log reads it: a regular expression of a few bytes can take minutes to make.
    EnvFilter::builder()
        .with_regex(false)
        .parse(&filter)
        .map_err(|_| expected())?;
    Ok(filter)
}

pub fn path(text: &str, sources: &Sources) -> Result<PathBuf, String> {
    let expanded = match text.strip_prefix('~') {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => sources
            .home()
            .ok_or_else(|| format!("`{text}` needs a home directory and HOME is not set"))?
            .join(rest.trim_start_matches('/')),
        _ => sources.directory().join(text),
    };
    if text.ends_with('/') || expanded.is_dir() {
        return Err(format!("`{text}` is a directory: name a file in it"));
    }
    Ok(expanded)
}

pub fn log_target(text: &str, sources: &Sources) -> Result<LogTarget, String> {
    if text == "-" {
        Ok(LogTarget::Stdout)
    } else {
        path(text, sources).map(LogTarget::File)
    }
}

pub fn log_max_size(text: &str) -> Result<ByteSize, String> {
    match text.parse::<ByteSize>() {
        Ok(size) if size >= ByteSize::kib(64) || size.as_u64() == 0 => Ok(size),
        Ok(_) => Err(format!("`{text}` is less than 64KiB, and not 0")),
        Err(_) => Err(format!("`{text}` is not a size such as 100MiB")),
    }
}

pub fn log_keep(text: &str) -> Result<u16, String> {
    text.parse()
        .ok()
        .filter(|keep| *keep <= 1000)
        .ok_or_else(|| format!("`{text}` is not a number of files (0 to 1000)"))
}

pub fn shutdown_timeout(text: &str) -> Result<Duration, String> {
    duration(text)
        .filter(|timeout| *timeout <= Duration::from_hours(1))
        .ok_or_else(|| format!("`{text}` is not a duration such as 10s, at most 1h"))
}

pub fn drain_delay(text: &str) -> Result<Duration, String> {
    duration(text)
        .filter(|delay| *delay <= Duration::from_mins(5))
        .ok_or_else(|| format!("`{text}` is not a duration such as 5s, at most 5m"))
}

pub fn check_interval(text: &str) -> Result<Duration, String> {
    duration(text)
        .filter(|interval| {
            (Duration::from_millis(500)..=Duration::from_hours(1)).contains(interval)
        })
        .ok_or_else(|| format!("`{text}` is not a duration such as 5s, from 500ms to 1h"))
}

pub fn check_timeout(text: &str) -> Result<Duration, String> {
    duration(text)
        .filter(|timeout| (Duration::from_millis(50)..=Duration::from_mins(1)).contains(timeout))
        .ok_or_else(|| format!("`{text}` is not a duration such as 1s, from 50ms to 1m"))
}

pub fn client_timeout(text: &str) -> Result<Duration, String> {
    duration(text)
        .filter(|timeout| (Duration::from_millis(100)..=Duration::from_hours(1)).contains(timeout))
        .ok_or_else(|| format!("`{text}` is not a duration such as 10s, from 100ms to 1h"))
}

pub fn key_grace(text: &str) -> Result<Duration, String> {
    duration(text)
        .filter(|grace| *grace <= Duration::from_hours(24))
        .ok_or_else(|| format!("`{text}` is not a duration such as 10m, at most 1d"))
}

/// `10s`, `1m 30s`, or a bare number of seconds.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => humantime::parse_duration(text).ok(),
    }
}

pub fn max_header_size(text: &str) -> Result<usize, String> {
    size_in_range(text, ByteSize::kib(8), ByteSize::mib(1))
}

pub fn max_body_size(text: &str) -> Result<usize, String> {
    size_in_range(text, ByteSize::kib(1), ByteSize::gib(1))
}

fn size_in_range(text: &str, least: ByteSize, most: ByteSize) -> Result<usize, String> {
    text.parse::<ByteSize>()
        .ok()
        .filter(|size| (least..=most).contains(size))
        .and_then(|size| usize::try_from(size.as_u64()).ok())
        .ok_or_else(|| format!("`{text}` is not a size from {least} to {most}"))
}

/// A number of connections, or of attempts.
pub fn count(text: &str) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|count| (1..=1_000_000).contains(count))
        .ok_or_else(|| format!("`{text}` is not a number from 1 to 1000000"))
}

const MIN_SECRET_BYTES: usize = 32;

pub fn jwt_secret(text: &str) -> Result<Secret, String> {
    const NEXT: &str =
        "make one with `openssl rand -hex 32`, or leave it out and one is made and kept for you";
    if text == "your-secret-key" {
        return Err(format!(
            "is still the placeholder of the documentation: {NEXT}"
        ));
    }
    if text.len() < MIN_SECRET_BYTES {
        return Err(format!(
            "has {} bytes and needs at least {MIN_SECRET_BYTES}: {NEXT}",
            text.len()
        ));
    }
    Ok(Secret::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_filter_accepts_python_and_tracing_levels() {
        assert_eq!(log_filter("WARNING").unwrap(), "warn");
        assert_eq!(log_filter("critical").unwrap(), "error");
        assert_eq!(log_filter("info, hyper=debug").unwrap(), "info,hyper=debug");
        assert_eq!(log_filter("hyper=debug").unwrap(), "info,hyper=debug");
        assert!(log_filter("verbose").is_err());
        assert!(log_filter("info,hyper=loud").is_err());
        assert!(log_filter("").is_err());
    }

    #[test]
    fn admin_host_must_be_loopback() {
        for good in ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost"] {
            assert!(loopback(good).is_ok(), "{good}");
        }
        for bad in ["0.0.0.0", "::", "192.0.2.1", "example.org", ""] {
            assert!(loopback(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn values_have_units_and_ranges() {
        assert_eq!(shutdown_timeout("15").unwrap(), Duration::from_secs(15));
        assert_eq!(shutdown_timeout("1m 30s").unwrap(), Duration::from_secs(90));
        assert!(shutdown_timeout("2h").is_err());
        assert_eq!(log_max_size("100MiB").unwrap(), ByteSize::mib(100));
        assert_eq!(log_max_size("0").unwrap(), ByteSize(0));
        assert!(log_max_size("1KiB").is_err());
        assert!(log_keep("1001").is_err());
        assert_eq!(client_timeout("250ms").unwrap(), Duration::from_millis(250));
        assert!(client_timeout("0").is_err() && client_timeout("61m").is_err());
        assert_eq!(drain_delay("5m").unwrap(), Duration::from_mins(5));
        assert!(drain_delay("301s").is_err());
        assert!(check_interval("499ms").is_err() && check_interval("500ms").is_ok());
        assert!(check_timeout("49ms").is_err() && check_timeout("1m").is_ok());
        assert_eq!(dependency_host("[::1]").unwrap(), "::1");
        assert!(dependency_host("a b").is_err() && dependency_host("[]").is_err());
        assert_eq!(key_grace("0").unwrap(), Duration::ZERO);
        assert!(key_grace("25h").is_err());
        assert_eq!(max_header_size("8KiB").unwrap(), 8192);
        let error = max_header_size("4KiB").unwrap_err();
        assert!(error.contains("8.0 KiB to 1.0 MiB"), "{error}");
        assert!(max_body_size("2GiB").is_err());
        assert_eq!(count("1000000"), Ok(1_000_000));
        assert!(count("0").is_err() && count("1000001").is_err());
        assert!(dependency_port("0").is_err());
        assert_eq!(port("0"), Ok(0));
        assert!(port("65536").is_err());
    }

    #[test]
    fn weak_secret_is_rejected_without_being_shown() {
        let error = jwt_secret("hunter2").unwrap_err();
        assert!(error.contains("7 bytes") && !error.contains("hunter2"));
        assert!(
            jwt_secret("your-secret-key")
                .unwrap_err()
                .contains("placeholder")
        );
        assert!(jwt_secret(&"k".repeat(32)).is_ok());
    }
}

//! Parsers of single settings. An error contains the accepted range or forms and, unless the setting
//! is a secret, the value.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;

use super::paths::expand_path;
use super::secret::Secret;
use super::server_address::ServerHost;
use super::sources::Sources;
use super::weak_secret::secret_weakness;

pub fn host(text: &str) -> Result<IpAddr, String> {
    if text == "localhost" {
        return Ok(Ipv4Addr::LOCALHOST.into());
    }
    text.trim_start_matches('[')
        .trim_end_matches(']')
        .parse()
        .map_err(|_| format!("`{text}` is not an IP address, and not localhost"))
}

pub fn loopback(text: &str) -> Result<IpAddr, String> {
    let address = host(text)?;
    if address.is_loopback() {
        Ok(address)
    } else {
        Err(format!(
            "`{text}` is not a loopback address: use 127.0.0.1, ::1 or localhost, and an SSH tunnel (ssh -L) from other machines"
        ))
    }
}

pub fn port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| {
        format!("`{text}` is not a port number from 0 to 65535, where 0 picks a free port")
    })
}

pub fn dependency_port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err(format!("`{text}` is not a port number from 1 to 65535")),
        Ok(port) => Ok(port),
    }
}

pub fn database_ports(text: &str) -> Result<Vec<u16>, String> {
    let parsed: Result<_, _> = text.split(',').map(dependency_port).collect();
    parsed.map_err(|_| {
        format!("`{text}` is not a port number from 1 to 65535, or one for each host and commas")
    })
}

/// Names, IP addresses, or directories of a Unix socket, separated by commas.
pub fn database_hosts(text: &str) -> Result<Vec<ServerHost>, String> {
    let hosts = text.split(',');
    let host = |text: &str| {
        if text.starts_with('/') {
            return Ok(ServerHost::Directory(text.into()));
        }
        dependency_host(text, "DB").map(ServerHost::Name)
    };
    let parsed: Result<_, _> = hosts.clone().map(host).collect();
    let ports: Vec<_> = hosts.map(split_port).collect();
    if parsed.is_err() && ports.len() > 1 && ports.iter().any(Option::is_some) {
        return Err(format!(
            "`{text}` has ports: set DB_HOST to the hosts and DB_PORT to their ports, each separated by commas"
        ));
    }
    parsed
}

/// A name, an IP address, or the path of a Unix socket.
pub fn redis_host(text: &str) -> Result<ServerHost, String> {
    if text.starts_with('/') {
        return Ok(ServerHost::Socket(text.into()));
    }
    dependency_host(text, "REDIS").map(ServerHost::Name)
}

pub fn redis_database(text: &str) -> Result<u32, String> {
    let number = text.parse::<u16>();
    number
        .map(u32::from)
        .map_err(|_| format!("`{text}` is not a number from 0 to 65535"))
}

/// A host name or an IP address. The address may be in brackets. `kind` is the beginning of the
/// settings, such as `DB`.
pub fn dependency_host(text: &str, kind: &str) -> Result<String, String> {
    if let Some((host, port)) = split_port(text) {
        return Err(format!(
            "`{text}` is a host and a port: set {kind}_HOST={host} and {kind}_PORT={port}"
        ));
    }
    let host = without_brackets(text);
    if host.parse::<IpAddr>().is_ok() {
        return Ok(host.to_owned());
    }
    let is_invalid = |c: char| c.is_whitespace() || c.is_control() || "/@:[],".contains(c);
    if host.is_empty() || host.contains(is_invalid) {
        return Err(format!("`{text}` is not a host name or an IP address"));
    }
    Ok(host.to_owned())
}

/// The host and the port of `HOST:PORT`.
fn split_port(text: &str) -> Option<(&str, &str)> {
    let (host, port) = text.rsplit_once(':')?;
    let is_address = without_brackets(text).parse::<IpAddr>().is_ok();
    (!is_address && !text.contains('@') && port.parse::<u16>().is_ok()).then_some((host, port))
}

fn without_brackets(text: &str) -> &str {
    let inner = text.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    inner.unwrap_or(text)
}

/// Encryption of connections to PostgreSQL, by the names of libpq.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslMode {
    Disable,
    /// Encrypt if the server insists.
    Allow,
    /// Encrypt if the server can.
    Prefer,
    /// Encrypt, and verify the certificate if there is a root certificate.
    Require,
    /// Encrypt, and check who signed the certificate.
    VerifyCa,
    /// Encrypt, and check that the certificate is the host's.
    VerifyFull,
}

pub const SSL_MODES: &str = "disable, allow, prefer, require, verify-ca or verify-full";

pub fn ssl_mode(text: &str) -> Result<SslMode, String> {
    match text {
        "disable" => Ok(SslMode::Disable),
        "allow" => Ok(SslMode::Allow),
        "prefer" => Ok(SslMode::Prefer),
        "require" => Ok(SslMode::Require),
        "verify-ca" => Ok(SslMode::VerifyCa),
        "verify-full" => Ok(SslMode::VerifyFull),
        _ => Err(format!("`{text}` is not {SSL_MODES}")),
    }
}

pub fn on_or_off(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(format!("`{text}` is not on or off")),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "has the signature of a parser")]
pub fn any_text(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

#[expect(clippy::unnecessary_wraps, reason = "has the signature of a parser")]
pub fn password(text: &str) -> Result<Secret, String> {
    Ok(Secret::new(text.to_owned()))
}

pub fn path(text: &str, sources: &Sources) -> Result<PathBuf, String> {
    if text == "-" {
        return Err("`-` is stdout, but a file is needed: set a path".into());
    }
    let expanded = expand_path(text, sources.home(), sources.directory())?;
    if text.ends_with('/') || expanded.is_dir() {
        return Err(format!("`{text}` is a directory, not a file"));
    }
    Ok(expanded)
}

pub fn log_max_size(text: &str) -> Result<ByteSize, String> {
    match text.parse::<ByteSize>() {
        Ok(size) if size >= ByteSize::kib(64) || size.as_u64() == 0 => Ok(size),
        Ok(_) => Err(format!(
            "`{text}` is too small: use at least 64KiB, or 0 to disable rotation"
        )),
        Err(_) => Err(format!(
            "`{text}` is not a size such as 100MiB: use at least 64KiB, or 0 to disable rotation"
        )),
    }
}

pub fn log_keep(text: &str) -> Result<u16, String> {
    text.parse()
        .ok()
        .filter(|keep| *keep <= 1000)
        .ok_or_else(|| format!("`{text}` is not a number from 0 to 1000"))
}

/// A mode that lets nobody but the owner write, and nobody execute.
pub fn log_mode(text: &str) -> Result<u32, String> {
    let digits = (3..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    let mode = u32::from_str_radix(text, 8).ok().filter(|_| digits);
    mode.filter(|mode| [0o600, 0o640, 0o644].contains(mode))
        .ok_or_else(|| {
            format!(
                "`{text}` is not a mode of a log file such as 0640: use 0600, 0640 or 0644 (the owner reads and writes, others can only read)"
            )
        })
}

pub fn shutdown_timeout(text: &str) -> Result<Duration, String> {
    duration(text)
        .filter(|timeout| *timeout <= Duration::from_hours(1))
        .ok_or_else(|| format!("`{text}` is not a duration such as 10s, from 0s to 1h"))
}

pub fn drain_delay(text: &str) -> Result<Duration, String> {
    duration(text)
        .filter(|delay| *delay <= Duration::from_mins(5))
        .ok_or_else(|| format!("`{text}` is not a duration such as 5s, from 0s to 5m"))
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
        .ok_or_else(|| format!("`{text}` is not a duration such as 10m, from 0s to 1d"))
}

/// Parses `10s`, `1m 30s`, or a bare number of seconds. The units are those of `humantime`;
/// existing files use them.
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

fn size_in_range(text: &str, min: ByteSize, max: ByteSize) -> Result<usize, String> {
    text.parse::<ByteSize>()
        .ok()
        .filter(|size| (min..=max).contains(size))
        .and_then(|size| usize::try_from(size.as_u64()).ok())
        .ok_or_else(|| format!("`{text}` is not a size from {min} to {max}"))
}

/// A number of connections or attempts.
pub fn count(text: &str) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|count| (1..=1_000_000).contains(count))
        .ok_or_else(|| format!("`{text}` is not a number from 1 to 1000000"))
}

const MIN_SECRET_BYTES: usize = 32;

pub fn jwt_secret(text: &str) -> Result<Secret, String> {
    const NEXT: &str =
        "generate one with `openssl rand -hex 32`, or remove the setting to have a key created";
    if text == "your-secret-key" {
        return Err(format!("is the placeholder from the documentation: {NEXT}"));
    }
    if text.len() < MIN_SECRET_BYTES {
        return Err(format!(
            "has {} bytes, but needs at least {MIN_SECRET_BYTES}: {NEXT}",
            text.len()
        ));
    }
    if let Some(weakness) = secret_weakness(text) {
        return Err(format!("{weakness}, so it can be guessed: {NEXT}"));
    }
    Ok(Secret::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(log_mode("0640"), Ok(0o640));
        assert_eq!(log_mode("600"), Ok(0o600));
        assert_eq!(log_mode("0644"), Ok(0o644));
        for bad in [
            "",
            "0",
            "640 ",
            "00640",
            "0o640",
            "+640",
            "0660",
            "0606",
            "0666",
            "0700",
            "0440",
            "4640",
            "0648",
            "rw-r-----",
        ] {
            assert!(log_mode(bad).is_err(), "{bad}");
        }
        assert_eq!(client_timeout("250ms").unwrap(), Duration::from_millis(250));
        assert!(client_timeout("0").is_err() && client_timeout("61m").is_err());
        assert_eq!(drain_delay("5m").unwrap(), Duration::from_mins(5));
        assert!(drain_delay("301s").is_err());
        assert!(check_interval("499ms").is_err() && check_interval("500ms").is_ok());
        assert!(check_timeout("49ms").is_err() && check_timeout("1m").is_ok());
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
    fn host_has_no_port() {
        let host = |text| dependency_host(text, "DB");
        for (good, parsed) in [
            ("::1", "::1"),
            ("[::1]", "::1"),
            ("db", "db"),
            ("db.example.", "db.example."),
        ] {
            assert_eq!(host(good).as_deref(), Ok(parsed));
        }
        for bad in [
            "user:hunter2@db",
            "a b",
            "[]",
            "a,b",
            "db:x",
            "[db",
            "a:b:c",
        ] {
            assert!(
                host(bad).unwrap_err().contains("is not a host name"),
                "{bad}"
            );
        }
        for (text, next_step) in [
            ("db:5433", "set DB_HOST=db and DB_PORT=5433"),
            ("[::1]:5433", "set DB_HOST=[::1] and DB_PORT=5433"),
            ("10.0.0.5:1", "set DB_HOST=10.0.0.5 and DB_PORT=1"),
        ] {
            assert!(host(text).unwrap_err().ends_with(next_step), "{text}");
        }
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
        let error = jwt_secret(&"hunter2!".repeat(4)).unwrap_err();
        assert!(error.contains("can be guessed") && !error.contains("hunter2"));
        assert!(jwt_secret("an-obviously-made-up-secret-of-the-tests").is_ok());
    }
}

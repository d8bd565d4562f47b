//! `ADMIN_ORIGINS`: the origins of the console behind a TLS proxy.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

const FORM: &str = "use SCHEME://HOST or SCHEME://HOST:PORT, such as https://fullon.example.com";

/// An origin as a browser writes it (RFC 6454, section 6.2): scheme, host, and the port unless it is
/// the default of the scheme.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminOrigin {
    text: String,
    is_https: bool,
    host: String,
    port: Option<u16>,
}

impl AdminOrigin {
    fn parse(text: &str) -> Result<Self, String> {
        let invalid = |reason: &str| format!("`{text}` is {reason}: {FORM}");
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| invalid("not an origin"))?;
        let is_https = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(invalid("not an origin with https or http")),
        };
        if rest.contains(['/', '?', '#']) {
            return Err(invalid("an address with a path, not an origin"));
        }
        if rest.contains('*') {
            return Err(invalid("a pattern, and each origin has to be listed"));
        }
        if !rest.is_ascii() {
            return Err(invalid(
                "an origin with a host in Unicode, which browsers write as xn--…",
            ));
        }
        let (host, port) = split_host_port(rest);
        let host = normal_host(host);
        let host = host.ok_or_else(|| invalid("not an origin with a valid host and port"))?;
        let port = match port.map(str::parse) {
            None => None,
            Some(Err(_) | Ok(0)) => return Err(invalid("not an origin with a valid port")),
            Some(Ok(port)) => Some(port).filter(|port| *port != default_port(is_https)),
        };
        let scheme = if is_https { "https" } else { "http" };
        let shown_port = port.map_or_else(String::new, |port| format!(":{port}"));
        Ok(Self {
            text: format!("{scheme}://{host}{shown_port}"),
            is_https,
            host,
            port,
        })
    }

    /// Whether pages of the origin are loaded over TLS.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.is_https
    }

    /// The port, unless it is the default of the scheme.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The port that a browser connects to.
    #[must_use]
    pub fn effective_port(&self) -> u16 {
        self.port.unwrap_or_else(|| default_port(self.is_https))
    }

    /// Whether tokens and sessions cross a network unencrypted.
    #[must_use]
    pub fn is_exposed(&self) -> bool {
        let is_loopback = self.host == "localhost"
            || self.host == "[::1]"
            || self
                .host
                .parse::<Ipv4Addr>()
                .is_ok_and(|address| address.is_loopback());
        !self.is_https && !is_loopback
    }
}

impl fmt::Display for AdminOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AdminOrigins(Vec<AdminOrigin>);

impl AdminOrigins {
    /// Whether there is no such origin.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Parses a list that is separated by commas or white space.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.contains('@') {
            return Err(format!("has a user name or a password: {FORM}"));
        }
        let mut origins: Vec<AdminOrigin> = Vec::new();
        let entries = text.split(|c: char| c == ',' || c.is_whitespace());
        for entry in entries.filter(|entry| !entry.is_empty()) {
            let origin = AdminOrigin::parse(entry)?;
            // `Host` has no scheme.
            let same_host = origins
                .iter()
                .find(|other| (&other.host, other.port) == (&origin.host, origin.port));
            match same_host {
                Some(other) if *other != origin => {
                    return Err(format!(
                        "`{origin}` and `{other}` differ only in the scheme: use one of them"
                    ));
                }
                Some(_) => {}
                None => origins.push(origin),
            }
        }
        Ok(Self(origins))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &AdminOrigin> {
        self.0.iter()
    }

    /// The origin that `Origin` names.
    #[must_use]
    pub fn with_text(&self, text: &str) -> Option<&AdminOrigin> {
        self.iter().find(|origin| origin.text == text)
    }

    /// The origin that `Host` names. A proxy may leave out the port.
    #[must_use]
    pub fn with_host(&self, host: &str, port: Option<u16>) -> Option<&AdminOrigin> {
        self.iter().find(|origin| {
            origin.host.eq_ignore_ascii_case(host)
                && port.is_none_or(|port| port == origin.effective_port())
        })
    }

    /// Whether one has this host name.
    #[must_use]
    pub fn has_host(&self, host: &str) -> bool {
        self.with_host(host, None).is_some()
    }
}

fn default_port(is_https: bool) -> u16 {
    if is_https { 443 } else { 80 }
}

/// Splits at the colon before a port. Text that is not all digits is no port.
pub(crate) fn split_host_port(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (host, Some(port)),
        _ => (text, None),
    }
}

/// The host as a browser writes it; `None` if it is invalid.
fn normal_host(host: &str) -> Option<String> {
    if let Some(address) = host.strip_prefix('[') {
        let address: Ipv6Addr = address.strip_suffix(']')?.parse().ok()?;
        // Rust writes the end of such an address as IPv4.
        if address.to_ipv4_mapped().is_some() {
            let [.., high, low] = address.segments();
            return Some(format!("[::ffff:{high:x}:{low:x}]"));
        }
        return Some(format!("[{address}]"));
    }
    let is_valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let mut labels = host.strip_suffix('.').unwrap_or(host).split('.');
    if !labels.all(|label| !label.is_empty() && label.chars().all(is_valid)) {
        return None;
    }
    // Browsers take such a host for an IPv4 address, which they write as four decimal numbers.
    let last = host.trim_end_matches('.').rsplit('.').next()?;
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit())
        || last.starts_with("0x")
        || last.starts_with("0X");
    if is_number {
        return Some(host.parse::<Ipv4Addr>().ok()?.to_string());
    }
    Some(host.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Vec<String> {
        let origins = AdminOrigins::parse(text).unwrap();
        origins.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn origins_are_written_as_browsers_write_them() {
        assert_eq!(
            parse("HTTPS://Fullon.Example.com:443, http://[0:0::1]:8080\n\thttp://a_b.lan:80,"),
            [
                "https://fullon.example.com",
                "http://[::1]:8080",
                "http://a_b.lan"
            ]
        );
        assert_eq!(parse("https://a https://a:443"), ["https://a"]);
        assert_eq!(
            parse("http://[::ffff:1.2.3.4]"),
            ["http://[::ffff:102:304]"]
        );
        let error = AdminOrigins::parse("https://b\u{fc}ro.example").unwrap_err();
        assert!(error.contains("xn--"), "{error}");
        assert!(parse(" , ").is_empty());
    }

    #[test]
    fn error_names_the_entry() {
        for entry in [
            "fullon.example.com",
            "ftp://a",
            "https://",
            "https://a/",
            "https://a/console",
            "https://a?b",
            "https://*.a",
            "https://a:0",
            "https://a:b",
            "https://a:",
            "https://a:+443",
            "https://.",
            "https://a..",
            "https://a..b",
            "https://127.1",
            "https://0x7f.1",
            "https://10.0.0.0x1",
            "https://1.2.3.4.",
            "https://a:99999",
            "https://[::1",
            "https://[::g]",
            "https://::1",
            "https://ä",
            "https://a\"b",
            "null",
            "*",
        ] {
            let error = AdminOrigins::parse(&format!("https://good {entry}")).unwrap_err();
            assert!(error.starts_with(&format!("`{entry}` is ")), "{error}");
        }
        let error = AdminOrigins::parse("https://me:hun ter2@a").unwrap_err();
        assert!(error.contains("password") && !error.contains("hun"));
        let error = AdminOrigins::parse("https://a http://a").unwrap_err();
        assert!(error.contains("differ only in the scheme"), "{error}");
        assert!(AdminOrigins::parse("https://a http://a:8080").is_ok());
    }

    #[test]
    fn host_header_finds_its_origin() {
        let origins = AdminOrigins::parse("https://a https://b:8443 http://c").unwrap();
        let find = |host, port| origins.with_host(host, port).map(ToString::to_string);
        assert_eq!(find("A", None).as_deref(), Some("https://a"));
        assert_eq!(find("a", Some(443)).as_deref(), Some("https://a"));
        assert_eq!(find("a", Some(80)), None);
        assert_eq!(find("b", None).as_deref(), Some("https://b:8443"));
        assert_eq!(find("c", Some(80)).as_deref(), Some("http://c"));
        assert_eq!(find("d", None), None);
        assert!(origins.with_text("https://b:8443").is_some());
        assert!(origins.with_text("http://a").is_none());
    }

    #[test]
    fn http_is_exposed_unless_on_loopback() {
        let exposed = |text: &str| AdminOrigin::parse(text).unwrap().is_exposed();
        assert!(exposed("http://fullon.lan") && exposed("http://192.0.2.1:8080"));
        for text in [
            "https://a",
            "http://localhost:1",
            "http://127.0.0.2",
            "http://[::1]",
        ] {
            assert!(!exposed(text), "{text}");
        }
    }
}

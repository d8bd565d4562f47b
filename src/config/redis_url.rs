//! `REDIS_URL`, by the rules of redis-cli and of Redis's client libraries.

use percent_encoding::percent_decode_str;
use url::{Host, Url};

use super::parse;
use super::secret::Secret;
use super::server_address::ServerHost;

/// The parts that the URL has.
#[derive(Debug)]
pub(super) struct RedisUrl {
    pub host: ServerHost,
    pub port: Option<u16>,
    pub is_encrypted: bool,
    pub user: Option<String>,
    pub password: Option<Secret>,
    pub database: Option<u32>,
}

const FORM: &str = "is not a URL such as redis://USER:PASSWORD@HOST:PORT/DATABASE, rediss://… (TLS) or unix:///SOCKET?db=DATABASE";

impl RedisUrl {
    /// Parses a URL. The errors quote nothing of it but the names of parameters.
    pub fn parse(text: &str) -> Result<Self, String> {
        // A URL with a user needs a host.
        let unix = ["unix://", "redis+unix://"];
        let is_unix = unix.iter().any(|scheme| text.starts_with(scheme));
        let text = if is_unix {
            text.replacen("@/", "@localhost/", 1)
        } else {
            text.to_owned()
        };
        let url = Url::parse(&text).map_err(|_| FORM)?;
        let mut parsed = Self {
            host: if is_unix {
                ServerHost::Socket(decode(url.path())?.into())
            } else {
                ServerHost::Name(host(&url)?)
            },
            port: url.port(),
            is_encrypted: match url.scheme() {
                "rediss" => true,
                "redis" => false,
                _ if is_unix => false,
                _ => return Err(format!("{FORM}: it begins with another scheme")),
            },
            user: text_of(url.username())?,
            password: text_of(url.password().unwrap_or_default())?.map(Secret::new),
            database: None,
        };
        if parsed.port == Some(0) {
            return Err("has the port 0".into());
        }
        if url.fragment().is_some() {
            return Err(
                "has a part after #, which is not supported: write %23 for a # of the password"
                    .into(),
            );
        }
        let path = url.path().trim_matches('/');
        if !is_unix && !path.is_empty() {
            parsed.database = Some(parse::redis_database(&decode(path)?).map_err(|_| DATABASE)?);
        }
        for (name, value) in url.query_pairs() {
            match &*name {
                "db" => {
                    parsed.database = Some(parse::redis_database(&value).map_err(|_| DATABASE)?);
                }
                "user" | "username" => parsed.user = Some(value.into_owned()),
                "pass" | "password" => parsed.password = Some(Secret::new(value.into_owned())),
                // Both versions of the protocol are the same for our commands.
                "protocol" => {}
                other => {
                    // Anything else may be a secret.
                    let is_name = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
                    let is_shown = other.len() <= 32 && other.bytes().all(is_name);
                    let shown = if is_shown { other } else { "that is not shown" };
                    return Err(format!("has the parameter {shown}, which is not supported"));
                }
            }
        }
        Ok(parsed)
    }
}

const DATABASE: &str = "has a database that is not a number from 0 to 65535";

fn host(url: &Url) -> Result<String, String> {
    match url.host() {
        Some(Host::Domain(name)) => parse::dependency_host(&decode(name)?, "REDIS")
            .map_err(|_| "has a host that is not a name or an IP address".into()),
        Some(Host::Ipv4(address)) => Ok(address.to_string()),
        Some(Host::Ipv6(address)) => Ok(address.to_string()),
        None => Ok("localhost".into()),
    }
}

fn decode(text: &str) -> Result<String, String> {
    let decoded = percent_decode_str(text).decode_utf8();
    let decoded = decoded.map_err(|_| "has a part that is not valid UTF-8")?;
    Ok(decoded.into_owned())
}

fn text_of(text: &str) -> Result<Option<String>, String> {
    decode(text).map(|text| Some(text).filter(|text| !text.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Host, port, encryption, user, password and database.
    fn parts(text: &str) -> String {
        let url = RedisUrl::parse(text).unwrap();
        let RedisUrl { host, port, .. } = &url;
        let password = url.password.as_ref().map(Secret::expose);
        format!(
            "{host} {port:?} {} {:?} {password:?} {:?}",
            url.is_encrypted,
            url.user.as_deref(),
            url.database
        )
        .replace("None", "-")
    }

    /// Examples of the documentation of redis-cli, redis-py and the `redis` crate.
    #[test]
    fn urls_of_redis_libraries_are_understood() {
        for (text, expected) in [
            ("redis://localhost", "localhost - false - - -"),
            (
                "redis://localhost:6380/3",
                "localhost Some(6380) false - - Some(3)",
            ),
            (
                "redis://me:p%40ss@db/0",
                r#"db - false Some("me") Some("p@ss") Some(0)"#,
            ),
            (
                "redis://:secret@db:1",
                r#"db Some(1) false - Some("secret") -"#,
            ),
            (
                "rediss://me@[::1]:6390/",
                r#"::1 Some(6390) true Some("me") - -"#,
            ),
            (
                "redis://10.0.0.1/?db=2&protocol=resp3",
                "10.0.0.1 - false - - Some(2)",
            ),
            ("redis:///5", "localhost - false - - Some(5)"),
            (
                "unix:///run/re%20dis.sock",
                "/run/re dis.sock - false - - -",
            ),
            (
                "unix://me:pw@/run/s?db=4",
                r#"/run/s - false Some("me") Some("pw") Some(4)"#,
            ),
            (
                "unix://me@/run/s?password=pw",
                r#"/run/s - false Some("me") Some("pw") -"#,
            ),
            (
                "redis+unix:///run/s?db=1&pass=pw",
                r#"/run/s - false - Some("pw") Some(1)"#,
            ),
        ] {
            assert_eq!(parts(text), expected, "{text}");
        }
    }

    #[test]
    fn errors_of_urls_show_no_value() {
        for (text, reason) in [
            ("hunter2", "is not a URL"),
            ("http://:hunter2@h", "another scheme"),
            ("redis://:hunter2@h:port", "is not a URL"),
            ("redis://:hunter2@h:0", "port 0"),
            ("redis://:hunter2@h/hunter2", "a database that is not"),
            ("redis://h/65536", "a database that is not"),
            ("redis://:a#hunter2@h", "is not a URL"),
            ("rediss://:hunter2@h/#insecure", "after #"),
            ("redis://a,hunter2/", "a host that is not"),
            (
                "redis://h?ssl_cert_reqs=none",
                "the parameter ssl_cert_reqs, which is not supported",
            ),
            ("redis://h?hunter2=none", "the parameter that is not shown"),
            ("redis://:%ffhunter2@h", "UTF-8"),
        ] {
            let error = RedisUrl::parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}

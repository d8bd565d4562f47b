//! `DATABASE_URL`, by the rules of libpq and of `tokio_postgres`, which parses most of it.

use std::borrow::Cow;
use std::net::IpAddr;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use tokio_postgres::Config;
use tokio_postgres::config::{self, ChannelBinding, SslNegotiation};

use super::secret::Secret;
use super::server_address::ServerHost;

/// The kind of session that a host must offer to be used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum SessionKind {
    #[default]
    Any,
    ReadWrite,
    ReadOnly,
}

/// The parts that the URL has.
#[derive(Debug, Default)]
pub(super) struct DatabaseUrl {
    /// Each host, and its address if the URL has that, too.
    pub hosts: Vec<(ServerHost, Option<IpAddr>)>,
    /// One for each host, or one for all, or none.
    pub ports: Vec<u16>,
    pub user: Option<String>,
    pub password: Option<Secret>,
    pub name: Option<String>,
    pub options: Option<String>,
    pub application_name: Option<String>,
    pub session: SessionKind,
    pub is_order_random: bool,
    pub ssl_mode: Option<String>,
    pub ssl_root_certificate: Option<String>,
    pub ssl_certificate: Option<String>,
    pub ssl_key: Option<String>,
}

const FORM: &str = "is not a URL such as postgres://USER:PASSWORD@HOST:PORT/DATABASE";

impl DatabaseUrl {
    /// Parses a URL. The errors quote nothing of it but the names of parameters.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").ok_or(FORM)?;
        // SQLAlchemy names its driver after a plus sign.
        let scheme = scheme.split('+').next().unwrap_or_default();
        if !["postgres", "postgresql"].contains(&scheme) {
            return Err(format!("{FORM}: it begins with another scheme"));
        }
        let credentials = rest.find('@').map_or(0, |at| at + 1);
        let query = rest[credentials..].find('?').map(|at| credentials + at);
        let (server, query) = rest.split_at(query.unwrap_or(rest.len()));
        let mut url = Self::default();
        let mut others = Vec::new();
        for parameter in query.trim_start_matches('?').split('&') {
            let Some((name, value)) = parameter.split_once('=') else {
                if parameter.is_empty() {
                    continue;
                }
                return Err("has a parameter without a value".into());
            };
            let decoded = |text| percent_decode_str(text).decode_utf8().ok();
            let (Some(known), Some(value)) = (decoded(name), decoded(value)) else {
                return Err("has a parameter that is not valid UTF-8".into());
            };
            // The library takes the value for one host.
            let hosts = (known == "host").then(|| value.clone());
            match (url.take_parameter(&known, value)?, hosts) {
                (Use::Done, _) => {}
                (Use::ByLibrary, None) => others.push(parameter.to_owned()),
                (Use::ByLibrary, Some(hosts)) => {
                    let encoded = hosts.split(',').map(|host| {
                        format!("host={}", utf8_percent_encode(host, NON_ALPHANUMERIC))
                    });
                    others.extend(encoded);
                }
            }
        }
        let separator = if others.is_empty() { "" } else { "?" };
        let others = others.join("&");
        let config: Config = format!("postgres://{server}{separator}{others}")
            .parse()
            .map_err(|_| format!("{FORM}: a part of it is not valid"))?;
        url.take_config(&config)?;
        Ok(url)
    }

    /// Takes the parameters that the library does not know, and refuses those that nobody here
    /// knows.
    fn take_parameter(&mut self, name: &str, value: Cow<'_, str>) -> Result<Use, String> {
        let place = match name {
            "sslmode" => &mut self.ssl_mode,
            "sslrootcert" => &mut self.ssl_root_certificate,
            "sslcert" => &mut self.ssl_certificate,
            "sslkey" => &mut self.ssl_key,
            // As JDBC has it.
            "ssl" if value == "true" => {
                self.ssl_mode = Some("require".into());
                return Ok(Use::Done);
            }
            // A probe has its own time limit and sends one packet at a time.
            "connect_timeout"
            | "tcp_user_timeout"
            | "keepalives"
            | "keepalives_idle"
            | "keepalives_interval"
            | "keepalives_count"
            | "keepalives_retries"
            | "fallback_application_name"
            | "client_encoding"
            | "sslcompression"
            | "sslsni" => {
                return Ok(Use::Done);
            }
            "gssencmode" if value != "require" => return Ok(Use::Done),
            "host"
            | "hostaddr"
            | "port"
            | "user"
            | "password"
            | "dbname"
            | "options"
            | "application_name"
            | "target_session_attrs"
            | "channel_binding"
            | "load_balance_hosts"
            | "sslnegotiation" => return Ok(Use::ByLibrary),
            _ => {
                // Anything else may be a secret.
                let is_name = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
                let is_shown = name.len() <= 32 && name.bytes().all(is_name);
                let shown = if is_shown { name } else { "that is not shown" };
                return Err(format!("has the parameter {shown}, which is not supported"));
            }
        };
        *place = Some(value.into_owned()).filter(|value| !value.is_empty());
        Ok(Use::Done)
    }

    fn take_config(&mut self, config: &Config) -> Result<(), String> {
        if config.get_channel_binding() == ChannelBinding::Require {
            return Err("has channel_binding=require, which is not supported".into());
        }
        if config.get_ssl_negotiation() == SslNegotiation::Direct {
            return Err("has sslnegotiation=direct, which is not supported".into());
        }
        let addresses = config.get_hostaddrs();
        let mut hosts: Vec<_> = config.get_hosts().iter().map(host).collect();
        if hosts.is_empty() {
            let host = |address: &IpAddr| ServerHost::Name(address.to_string());
            hosts = addresses.iter().map(host).collect();
        }
        if !addresses.is_empty() && addresses.len() != hosts.len() {
            return Err("does not have as many hostaddr as hosts".into());
        }
        let addresses = addresses.iter().copied().map(Some);
        let addresses = addresses.chain(std::iter::repeat(None));
        self.hosts = hosts.into_iter().zip(addresses).collect();
        self.ports = config.get_ports().to_vec();
        if self.ports.contains(&0) {
            return Err("has the port 0".into());
        }
        self.user = config.get_user().map(str::to_owned);
        if let Some(password) = config.get_password() {
            let password = String::from_utf8(password.to_vec());
            let password = password.map_err(|_| "has a password that is not valid UTF-8")?;
            self.password = Some(Secret::new(password)).filter(|it| !it.expose().is_empty());
        }
        self.name = config.get_dbname().map(str::to_owned);
        self.options = config.get_options().map(str::to_owned);
        self.application_name = config.get_application_name().map(str::to_owned);
        self.session = match config.get_target_session_attrs() {
            config::TargetSessionAttrs::ReadWrite => SessionKind::ReadWrite,
            config::TargetSessionAttrs::ReadOnly => SessionKind::ReadOnly,
            _ => SessionKind::Any,
        };
        self.is_order_random = config.get_load_balance_hosts() == config::LoadBalanceHosts::Random;
        Ok(())
    }
}

/// Where a parameter is handled.
enum Use {
    Done,
    ByLibrary,
}

fn host(host: &config::Host) -> ServerHost {
    match host {
        config::Host::Tcp(name) => ServerHost::Name(name.clone()),
        config::Host::Unix(directory) => ServerHost::Directory(directory.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(url: &DatabaseUrl) -> Vec<String> {
        let host = |(host, _): &(ServerHost, _)| host.to_string();
        url.hosts.iter().map(host).collect()
    }

    /// Examples of libpq's documentation, and URLs as platforms write them.
    #[test]
    fn urls_of_libpq_are_understood() {
        let parse = |text| DatabaseUrl::parse(text).unwrap();
        let url =
            parse("postgresql://other@localhost/otherdb?connect_timeout=10&application_name=myapp");
        assert_eq!(
            (hosts(&url), url.ports.clone()),
            (vec!["localhost".into()], vec![5432])
        );
        assert_eq!(url.user.as_deref(), Some("other"));
        assert_eq!(url.application_name.as_deref(), Some("myapp"));

        let url = parse("postgresql://host1:123,host2:456/somedb?target_session_attrs=read-write");
        assert_eq!(
            (hosts(&url), url.ports.clone()),
            (vec!["host1".into(), "host2".into()], vec![123, 456])
        );
        assert_eq!(url.session, SessionKind::ReadWrite);

        for text in [
            "postgresql:///dbname?host=/var/lib/postgresql",
            "postgresql://%2Fvar%2Flib%2Fpostgresql/dbname",
        ] {
            let url = parse(text);
            let directory = ServerHost::Directory("/var/lib/postgresql".into());
            assert_eq!(url.hosts, [(directory, None)]);
            assert_eq!(url.name.as_deref(), Some("dbname"));
        }

        let url = parse(
            "postgresql://[2001:db8::1234]:5433/database?sslmode=verify-ca&sslrootcert=/ca%20.pem",
        );
        assert_eq!(
            (hosts(&url), url.ports.clone()),
            (vec!["2001:db8::1234".into()], vec![5433])
        );
        assert_eq!(url.ssl_mode.as_deref(), Some("verify-ca"));
        assert_eq!(url.ssl_root_certificate.as_deref(), Some("/ca .pem"));

        let url = parse(
            "postgresql+asyncpg://u:p%40ss%2F@db/x?hostaddr=10.0.0.1&load_balance_hosts=random",
        );
        assert_eq!(url.password.as_ref().unwrap().expose(), "p@ss/");
        assert_eq!(url.hosts[0].1, Some([10, 0, 0, 1].into()));
        assert!(url.is_order_random);

        let url = parse("postgres:///x?host=a,/run/b&port=1,2");
        assert_eq!(hosts(&url), ["a", "/run/b"]);
        assert_eq!(url.ports, [1, 2]);

        let url = parse("postgres://");
        assert!(url.hosts.is_empty() && url.ports.is_empty() && url.name.is_none());
    }

    #[test]
    fn errors_of_urls_show_no_value() {
        for (text, reason) in [
            ("hunter2", "is not a URL"),
            ("mysql://u:hunter2@h/x", "another scheme"),
            ("postgres://u:hunter2@h:port/x", "not valid"),
            ("postgres://u:hunter2@h:0/x", "port 0"),
            ("postgres://h/x?hunter2", "without a value"),
            (
                "postgres://h/x?hunter2=1",
                "the parameter that is not shown",
            ),
            (
                "postgres://h/x?service=hunter",
                "the parameter service, which is not supported",
            ),
            ("postgres://h/x?channel_binding=require", "not supported"),
            (
                "postgres://h/x?sslnegotiation=direct&sslmode=require",
                "not supported",
            ),
            ("postgres://h/x?gssencmode=require", "gssencmode"),
            ("postgres://h/x?target_session_attrs=hunter2", "not valid"),
            ("postgres://a,b/x?hostaddr=10.0.0.1", "as many"),
            ("postgres://u:%ff@h/x", "UTF-8"),
        ] {
            let error = DatabaseUrl::parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}

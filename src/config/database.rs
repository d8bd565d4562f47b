//! Settings of PostgreSQL.

use super::database_url::{DatabaseUrl, SessionKind};
use super::endpoint::DependencyEndpoint;
use super::parse::{self, SslMode};
use super::secret::Secret;
use super::server_address::ServerHost;
use super::tls::{
    CertificateAuthorities, FileSetting, TlsMode, TlsSettings, load_authorities, load_identity,
};
use super::validator::Validator;

/// A PostgreSQL database and its credentials.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DatabaseSettings {
    pub endpoint: DependencyEndpoint,
    /// The role; the system user by default.
    pub user: String,
    pub password: Option<Secret>,
    pub name: String,
    /// Command line options for the server.
    pub options: Option<String>,
    pub application_name: Option<String>,
    pub session: SessionKind,
    /// Whether the hosts are tried in a random order.
    pub is_order_random: bool,
}

const URL: &str = "DATABASE_URL";

/// `None` if there is nothing to probe, or if a setting is invalid, which is recorded.
pub(super) fn load_database(validator: &mut Validator<'_>) -> Option<DatabaseSettings> {
    let hosts = validator.value("DB_HOST", parse::database_hosts);
    let ports = validator.value("DB_PORT", parse::database_ports);
    let user = validator.value("DB_USER", parse::any_text);
    let password = validator.value("DB_PASSWORD", parse::password);
    let name = validator.value("DB_NAME", parse::any_text);
    let is_url_set = validator.sources.get(URL).is_some();
    let url = validator.value(URL, DatabaseUrl::parse);
    let is_url_valid = url.is_some() || !is_url_set;
    let url = url.unwrap_or_default();
    let tls = load_tls(validator, &url);
    if !is_url_valid || (!is_url_set && name.is_none()) {
        return None;
    }

    let given = |values: Vec<_>| Some(values).filter(|values: &Vec<_>| !values.is_empty());
    let addresses: Vec<_> = url.hosts.iter().map(|(_, address)| *address).collect();
    let url_hosts: Vec<ServerHost> = url.hosts.into_iter().map(|(host, _)| host).collect();
    let hosts = validator.one_of("DB_HOST", hosts, URL, given(url_hosts));
    let url_ports = Some(url.ports).filter(|ports| !ports.is_empty());
    let ports = validator.one_of("DB_PORT", ports, URL, url_ports);
    let password = validator.one_of("DB_PASSWORD", password, URL, url.password);
    let user = validator.one_of("DB_USER", user, URL, url.user);
    let name = validator.one_of("DB_NAME", name, URL, url.name);
    let user = user.or_else(|| system_user(validator));
    let (hosts, ports, tls, user) = (hosts?, ports?, tls?, user?);
    if ports.len() != 1 && ports.len() != hosts.len() {
        let message = format!(
            "has {} ports, but there are {} hosts: use one port, or one for each host",
            ports.len(),
            hosts.len()
        );
        validator.add_problem("DB_PORT", message);
        return None;
    }
    let addresses = addresses.into_iter().chain(std::iter::repeat(None));
    let servers = hosts.into_iter().zip(ports.into_iter().cycle());
    let servers = servers.zip(addresses);
    let endpoint = DependencyEndpoint {
        servers: servers
            .map(|((host, port), address)| host.at(port, address))
            .collect(),
        tls,
    };
    Some(DatabaseSettings {
        endpoint: endpoint.check(validator, "DB_HOST")?,
        name: name.unwrap_or_else(|| user.clone()),
        user,
        password,
        options: url.options,
        application_name: url.application_name,
        session: url.session,
        is_order_random: url.is_order_random,
    })
}

/// The settings of TLS, or the parameters of the URL.
fn load_tls(validator: &mut Validator<'_>, url: &DatabaseUrl) -> Option<TlsSettings> {
    let mode = validator.value("DB_SSLMODE", parse::ssl_mode);
    let url_mode = url.ssl_mode.as_deref().map(parse::ssl_mode);
    let mode = match url_mode {
        Some(Err(_)) => {
            let message = format!("has an sslmode that is not {}", parse::SSL_MODES);
            validator.add_problem(URL, message);
            None
        }
        url_mode => validator.one_of("DB_SSLMODE", mode, URL, url_mode.and_then(Result::ok)),
    };
    let mut file = |name, in_url: &Option<String>| {
        let own = FileSetting::of(validator, name);
        let is_in_url = own.path.is_none() && in_url.is_some();
        let path = validator.one_of(name, own.path, URL, in_url.clone());
        let name = if is_in_url { URL } else { name };
        FileSetting { name, path }
    };
    let root = file("DB_SSLROOTCERT", &url.ssl_root_certificate);
    let certificate = file("DB_SSLCERT", &url.ssl_certificate);
    let key = file("DB_SSLKEY", &url.ssl_key);

    let identity = load_identity(validator, &certificate, &key);
    // The word of libpq for the authorities that the system trusts.
    let is_system = root.path.as_deref() == Some("system");
    let authorities = if is_system {
        Some(CertificateAuthorities::System)
    } else {
        load_authorities(validator, &root)
    };
    let is_given = root.path.is_some();
    let verify = "set DB_SSLMODE=verify-full";
    let unused = |setting: &FileSetting, needed: &str, next_step: String| {
        let what = if setting.name == URL {
            "has a certificate file that has"
        } else {
            "has"
        };
        (
            setting.name,
            format!("{what} no effect without {needed}: {next_step}"),
        )
    };
    let problem = match mode? {
        SslMode::Disable | SslMode::Allow | SslMode::Prefer if is_given => {
            let next_step = format!("{verify}, or remove {}", root.name);
            Some(unused(&root, "DB_SSLMODE=verify-full", next_step))
        }
        SslMode::Require | SslMode::VerifyCa if is_system => Some((
            root.name,
            format!("trusts the authorities of the system, which sign for anybody: {verify}"),
        )),
        SslMode::VerifyCa if !is_given => Some((
            "DB_SSLMODE",
            format!(
                "verify-ca needs DB_SSLROOTCERT, because the authorities of the system sign for anybody: set that, or {verify}"
            ),
        )),
        SslMode::Disable if certificate.path.is_some() => {
            let next_step = format!("{verify}, or remove {}", certificate.name);
            Some(unused(&certificate, "TLS", next_step))
        }
        _ => None,
    };
    if let Some((setting, message)) = problem {
        validator.add_problem(setting, message);
        return None;
    }
    let mode = match mode? {
        SslMode::Disable => TlsMode::Off,
        SslMode::Allow => TlsMode::Allow,
        SslMode::Prefer => TlsMode::Prefer,
        SslMode::Require if !is_given => TlsMode::Unverified,
        // With a root certificate, libpq verifies in this mode, too.
        SslMode::Require | SslMode::VerifyCa => TlsMode::VerifyAuthority(authorities?),
        SslMode::VerifyFull if !is_given => TlsMode::Verified(CertificateAuthorities::System),
        SslMode::VerifyFull => TlsMode::Verified(authorities?),
    };
    Some(TlsSettings {
        mode,
        identity: identity.ok()?,
    })
}

/// The default of PostgreSQL's own clients. `None` if `DB_USER` is set, but invalid.
fn system_user(validator: &mut Validator<'_>) -> Option<String> {
    if validator.sources.get("DB_USER").is_some() {
        return None;
    }
    let uid = nix::unistd::geteuid();
    let user = nix::unistd::User::from_uid(uid).ok().flatten();
    if user.is_none() {
        let message = format!(
            "is not set, and this user ({uid}) has no name on this machine: set it to the PostgreSQL user"
        );
        validator.add_problem("DB_USER", message);
    }
    user.map(|user| user.name)
}

//! Settings of Redis.

use super::endpoint::DependencyEndpoint;
use super::parse;
use super::redis_url::RedisUrl;
use super::secret::Secret;
use super::server_address::ServerHost;
use super::tls::{
    CertificateAuthorities, FileSetting, TlsMode, TlsSettings, load_authorities, load_identity,
};
use super::validator::Validator;

/// A Redis server and its credentials.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RedisSettings {
    pub endpoint: DependencyEndpoint,
    /// The ACL user; the default user if `None`.
    pub user: Option<String>,
    pub password: Option<Secret>,
    /// Number of the database.
    pub database: u32,
}

const URL: &str = "REDIS_URL";

/// `None` if there is nothing to probe, or if a setting is invalid, which is recorded.
pub(super) fn load_redis(validator: &mut Validator<'_>) -> Option<RedisSettings> {
    let host = validator.value("REDIS_HOST", parse::redis_host);
    let port = validator.value("REDIS_PORT", parse::dependency_port);
    let user = validator.value("REDIS_USERNAME", parse::any_text);
    let password = validator.value("REDIS_PASSWORD", parse::password);
    let database = validator.value("REDIS_DB", parse::redis_database);
    let is_encrypted = validator.value("REDIS_TLS", parse::on_or_off);
    let is_url_set = validator.sources.get(URL).is_some();
    let url = validator.value(URL, RedisUrl::parse);
    let is_url_valid = url.is_some() || !is_url_set;

    let url_tls = url.as_ref().map(|url| url.is_encrypted);
    let is_encrypted = validator.one_of("REDIS_TLS", is_encrypted, URL, url_tls);
    let tls = load_tls(validator, is_encrypted);
    if !is_url_valid {
        return None;
    }
    let (url_host, url_port, url_user, url_password, url_database) = match url {
        Some(url) => (
            Some(url.host),
            url.port,
            url.user,
            url.password,
            url.database,
        ),
        None => Default::default(),
    };
    let host = validator.one_of("REDIS_HOST", host, URL, url_host)?;
    let port = validator.one_of("REDIS_PORT", port, URL, url_port);
    let user = validator.one_of("REDIS_USERNAME", user, URL, url_user);
    let password = validator.one_of("REDIS_PASSWORD", password, URL, url_password);
    let database = validator.one_of("REDIS_DB", database, URL, url_database);
    let tls = tls?;
    if matches!(host, ServerHost::Socket(_)) && tls.mode.is_required() {
        let message = "TLS is not used on a Unix socket: remove the setting";
        validator.add_problem("REDIS_TLS", message.into());
        return None;
    }
    let endpoint = DependencyEndpoint {
        servers: vec![host.at(port?, None)],
        tls,
    };
    Some(RedisSettings {
        endpoint: endpoint.check(validator, "REDIS_HOST")?,
        user,
        password,
        database: database?,
    })
}

/// The certificate files have an effect only if connections are encrypted.
fn load_tls(validator: &mut Validator<'_>, is_encrypted: Option<bool>) -> Option<TlsSettings> {
    let [root, certificate, key] =
        ["REDIS_CACERT", "REDIS_CERT", "REDIS_KEY"].map(|name| FileSetting::of(validator, name));
    if is_encrypted == Some(false) {
        for FileSetting { name, path } in [&root, &certificate, &key] {
            if path.is_some() {
                let message = format!(
                    "has no effect without REDIS_TLS=on: set REDIS_TLS=on, or remove {name}"
                );
                validator.add_problem(name, message);
            }
        }
    }
    let identity = load_identity(validator, &certificate, &key);
    let authorities = match root.path {
        Some(_) => load_authorities(validator, &root),
        None => Some(CertificateAuthorities::System),
    };
    Some(TlsSettings {
        mode: if is_encrypted? {
            TlsMode::Verified(authorities?)
        } else {
            TlsMode::Off
        },
        identity: identity.ok()?,
    })
}

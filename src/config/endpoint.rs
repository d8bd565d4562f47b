//! Where a dependency is, and how connections to it are encrypted.

use tokio_rustls::rustls::pki_types::ServerName;

use super::server_address::ServerAddress;
use super::tls::TlsSettings;
use super::validator::Validator;

/// Addresses of a dependency, and the encryption of connections to it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DependencyEndpoint {
    /// Tried in this order. Never empty.
    pub servers: Vec<ServerAddress>,
    pub tls: TlsSettings,
}

impl DependencyEndpoint {
    /// TLS needs hosts that a certificate can name.
    pub(super) fn check(self, validator: &mut Validator<'_>, setting: &str) -> Option<Self> {
        if self.tls.mode.is_required() {
            for server in &self.servers {
                if let ServerAddress::Network { host, .. } = server
                    && ServerName::try_from(host.as_str()).is_err()
                {
                    let message =
                        format!("`{host}` is not a DNS name or an IP address, which TLS needs");
                    validator.add_problem(setting, message);
                    return None;
                }
            }
        }
        Some(self)
    }
}

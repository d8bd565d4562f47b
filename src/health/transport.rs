//! Connections to a dependency: DNS, TCP, and TLS if the settings require it.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::error::ProbeError;
use super::tls;
use crate::config::{DependencyEndpoint, TlsMode};

/// A byte stream in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection with or without TLS.
pub type Stream = Box<dyn Duplex>;

/// Connects to one server, whenever a connection is needed.
#[derive(Debug)]
pub struct Transport {
    endpoint: DependencyEndpoint,
    /// Created when it is needed, because it may read files. Created again after a failed
    /// handshake, because the files may have changed.
    tls_config: Option<Arc<ClientConfig>>,
    /// A name lookup in progress. It cannot be cancelled, so later probes wait for the same one.
    lookup: Option<JoinHandle<io::Result<Vec<SocketAddr>>>>,
    /// Index of the address to try first. Skips the address at which the last attempt hung.
    first_address: usize,
}

impl Transport {
    pub fn new(endpoint: DependencyEndpoint) -> Self {
        Self {
            endpoint,
            tls_config: None,
            lookup: None,
            first_address: 0,
        }
    }

    /// Connects over TCP. The future may be dropped at any time.
    pub async fn connect(&mut self) -> Result<TcpStream, ProbeError> {
        let mut error = ProbeError::UnresolvedHost;
        let mut addresses = self.addresses().await?;
        let first = self.first_address.checked_rem(addresses.len());
        addresses.rotate_left(first.unwrap_or_default());
        for address in addresses {
            let index = self.first_address;
            self.first_address = index.wrapping_add(1);
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    self.first_address = index;
                    stream.set_nodelay(true)?;
                    return Ok(stream);
                }
                Err(io_error) => error = ProbeError::Unreachable(io_error.kind()),
            }
        }
        Err(error)
    }

    pub fn is_encrypted(&self) -> bool {
        self.endpoint.tls != TlsMode::Off
    }

    /// Encrypts a connection, unless TLS is off.
    pub async fn encrypt(&mut self, stream: TcpStream) -> Result<Stream, ProbeError> {
        if !self.is_encrypted() {
            return Ok(Box::new(stream));
        }
        let config = self.tls_config().await?;
        let name = ServerName::try_from(self.endpoint.host.clone())
            .map_err(|_| ProbeError::Tls("the host name is not a valid name for a certificate"))?;
        let encrypted = TlsConnector::from(config).connect(name, stream).await;
        match encrypted {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => {
                self.tls_config = None;
                Err(tls::handshake_error(&error))
            }
        }
    }

    async fn tls_config(&mut self) -> Result<Arc<ClientConfig>, ProbeError> {
        if let Some(config) = &self.tls_config {
            return Ok(Arc::clone(config));
        }
        let mode = self.endpoint.tls.clone();
        let created = tokio::task::spawn_blocking(move || tls::client_config(&mode)).await;
        let config = created.ok().transpose()?.flatten();
        let config = config.ok_or(ProbeError::Tls("initialisation failed"))?;
        Ok(Arc::clone(self.tls_config.insert(config)))
    }

    async fn addresses(&mut self) -> Result<Vec<SocketAddr>, ProbeError> {
        let DependencyEndpoint { host, port, .. } = &self.endpoint;
        if let Ok(address) = host.parse() {
            return Ok(vec![SocketAddr::new(address, *port)]);
        }
        let lookup = self.lookup.get_or_insert_with(|| {
            let host = (host.clone(), *port);
            tokio::task::spawn_blocking(move || Ok(host.to_socket_addrs()?.collect()))
        });
        let found = lookup.await;
        self.lookup = None;
        found
            .ok()
            .and_then(Result::ok)
            .ok_or(ProbeError::UnresolvedHost)
    }
}

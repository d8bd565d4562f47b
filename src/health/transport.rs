//! The way to a dependency: its name resolved, TCP, and TLS where the settings ask for it.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::failure::ProbeError;
use super::tls;
use crate::config::{DependencyEndpoint, TlsMode};

/// A connection, encrypted or not.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection, encrypted or not.
pub type Stream = Box<dyn Duplex>;

/// Connects to one server, again and again.
#[derive(Debug)]
pub struct Transport {
    endpoint: DependencyEndpoint,
    /// Made when it is needed, as it may read files; and anew after a handshake that failed, as the files may be others.
    tls: Option<Arc<ClientConfig>>,
    /// One that is under way is waited for, however many probes it takes: it cannot be stopped.
    lookup: Option<JoinHandle<io::Result<Vec<SocketAddr>>>>,
    /// Which of its addresses is tried first: not the one that the last attempt hung at.
    first_address: usize,
}

impl Transport {
    pub fn new(endpoint: DependencyEndpoint) -> Self {
        Self {
            endpoint,
            tls: None,
            lookup: None,
            first_address: 0,
        }
    }

    /// Connects over TCP. May be dropped at any time.
    pub async fn connect(&mut self) -> Result<TcpStream, ProbeError> {
        let mut failure = ProbeError::UnresolvedHost;
        let mut addresses = self.addresses().await?;
        let first = self.first_address.checked_rem(addresses.len());
        addresses.rotate_left(first.unwrap_or_default());
        for address in addresses {
            let this = self.first_address;
            self.first_address = this.wrapping_add(1);
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    self.first_address = this;
                    let set = stream.set_nodelay(true);
                    set.map_err(|error| ProbeError::connection_lost(&error))?;
                    return Ok(stream);
                }
                Err(error) => failure = ProbeError::Unreachable(error.kind()),
            }
        }
        Err(failure)
    }

    /// Whether a connection has to be encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.endpoint.tls != TlsMode::Off
    }

    /// Encrypts a connection, if it has to be.
    pub async fn encrypt(&mut self, stream: TcpStream) -> Result<Stream, ProbeError> {
        if !self.is_encrypted() {
            return Ok(Box::new(stream));
        }
        let config = self.config().await?;
        let name = ServerName::try_from(self.endpoint.host.clone())
            .map_err(|_| ProbeError::Tls("its host has no name that a certificate could have"))?;
        let encrypted = TlsConnector::from(config).connect(name, stream).await;
        match encrypted {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => {
                self.tls = None;
                Err(tls::handshake_error(&error))
            }
        }
    }

    async fn config(&mut self) -> Result<Arc<ClientConfig>, ProbeError> {
        if let Some(config) = &self.tls {
            return Ok(Arc::clone(config));
        }
        let tls = self.endpoint.tls.clone();
        let made = tokio::task::spawn_blocking(move || tls::client_config(&tls)).await;
        let config = made.ok().transpose()?.flatten();
        let config = config.ok_or(ProbeError::Tls("this program cannot speak it"))?;
        Ok(Arc::clone(self.tls.insert(config)))
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

//! Connections to a dependency: DNS, TCP or a Unix socket, and TLS if the settings say so.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::error::ProbeError;
use super::tls;
use crate::config::{DependencyEndpoint, ServerAddress, TlsMode, TlsSettings};

/// A byte stream in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection with or without TLS.
pub type Stream = Box<dyn Duplex>;

/// Connects to the servers of a dependency, whenever a connection is needed.
#[derive(Debug)]
pub struct Transport {
    servers: Vec<Server>,
    /// Index of the server to try first. Skips the server at which the last attempt hung.
    first_server: usize,
    tls: TlsSettings,
    /// Created when it is needed, because it may read files. Created again after a failed
    /// handshake, because the files may have changed.
    tls_config: Option<Arc<ClientConfig>>,
    /// Whether the last attempt hung, or hangs, in the handshake.
    is_in_handshake: bool,
}

/// A server, and what is known of its addresses.
#[derive(Debug)]
struct Server {
    address: ServerAddress,
    /// A name lookup in progress. It cannot be cancelled, so later probes wait for the same one.
    lookup: Option<JoinHandle<io::Result<Vec<SocketAddr>>>>,
    /// Index of the address to try first. Skips the address at which the last attempt hung.
    first_address: usize,
}

impl Transport {
    pub fn new(endpoint: DependencyEndpoint) -> Self {
        let servers = endpoint.servers.into_iter().map(|address| Server {
            address,
            lookup: None,
            first_address: 0,
        });
        Self {
            servers: servers.collect(),
            first_server: 0,
            tls: endpoint.tls,
            tls_config: None,
            is_in_handshake: false,
        }
    }

    /// Indexes of the servers, in the order in which to try them. `shift` changes the first one.
    pub fn order(&self, shift: usize) -> Vec<usize> {
        let count = self.servers.len();
        let first = self.first_server.wrapping_add(shift);
        (0..count)
            .map(|offset| first.wrapping_add(offset) % count)
            .collect()
    }

    /// Says that a server is tried now. If the attempt never ends, the next one is first.
    pub fn begin(&mut self, server: usize) {
        self.first_server = (server + 1) % self.servers.len();
    }

    /// Says that a server works. It is the first one from now on.
    pub fn keep(&mut self, server: usize) {
        self.first_server = server;
    }

    /// Connects to a server. The future may be dropped at any time.
    pub async fn connect(&mut self, server: usize) -> Result<Stream, ProbeError> {
        self.is_in_handshake = false;
        self.servers[server].connect().await
    }

    /// How connections to a server are encrypted.
    pub fn mode(&self, server: usize) -> &TlsMode {
        match self.servers[server].address {
            ServerAddress::Network { .. } => &self.tls.mode,
            ServerAddress::Socket(_) => &TlsMode::Off,
        }
    }

    /// Whether a server is reached over a network, not a Unix socket.
    pub fn is_network(&self, server: usize) -> bool {
        matches!(self.servers[server].address, ServerAddress::Network { .. })
    }

    /// Whether the last probe ended in a handshake.
    pub fn is_in_handshake(&self) -> bool {
        self.is_in_handshake
    }

    /// Encrypts a connection to a server.
    pub async fn encrypt(&mut self, server: usize, stream: Stream) -> Result<Stream, ProbeError> {
        let ServerAddress::Network { host, .. } = &self.servers[server].address else {
            return Ok(stream);
        };
        let name = ServerName::try_from(host.clone())
            .map_err(|_| ProbeError::Tls("the host name is not a valid name for a certificate"))?;
        let config = self.tls_config().await?;
        self.is_in_handshake = true;
        let encrypted = TlsConnector::from(config).connect(name, stream).await;
        self.is_in_handshake = false;
        match encrypted {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => {
                self.tls_config = None;
                Err(error.into())
            }
        }
    }

    async fn tls_config(&mut self) -> Result<Arc<ClientConfig>, ProbeError> {
        if let Some(config) = &self.tls_config {
            return Ok(Arc::clone(config));
        }
        let settings = self.tls.clone();
        let created = tokio::task::spawn_blocking(move || tls::client_config(&settings)).await;
        let config = created.map_err(|_| ProbeError::Tls("initialisation failed"))??;
        Ok(Arc::clone(self.tls_config.insert(config)))
    }
}

impl Server {
    async fn connect(&mut self) -> Result<Stream, ProbeError> {
        let mut addresses = match &self.address {
            ServerAddress::Socket(path) => return connect_socket(path).await,
            ServerAddress::Network { .. } => self.addresses().await?,
        };
        let mut error = ProbeError::UnresolvedHost;
        let first = self.first_address.checked_rem(addresses.len());
        addresses.rotate_left(first.unwrap_or_default());
        for address in addresses {
            let index = self.first_address;
            self.first_address = index.wrapping_add(1);
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    self.first_address = index;
                    stream.set_nodelay(true)?;
                    return Ok(Box::new(stream));
                }
                Err(io_error) => error = ProbeError::Unreachable(io_error.kind()),
            }
        }
        Err(error)
    }

    async fn addresses(&mut self) -> Result<Vec<SocketAddr>, ProbeError> {
        let ServerAddress::Network {
            host,
            address,
            port,
        } = &self.address
        else {
            return Ok(Vec::new());
        };
        if let Some(address) = address {
            return Ok(vec![SocketAddr::new(*address, *port)]);
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

async fn connect_socket(path: &Path) -> Result<Stream, ProbeError> {
    let stream = UnixStream::connect(path).await;
    let stream = stream.map_err(|error| ProbeError::Unreachable(error.kind()))?;
    Ok(Box::new(stream))
}

//! Checks over TCP, as a client would, that the servers of this process respond. A new process does
//! so before it replaces the old one, and the watchdog before each ping.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::http::Service;
use super::http::request_id::REQUEST_ID;
use crate::api::reachable_addresses;

/// Every response shows that the server works, and requests to this path are logged at DEBUG.
const PROBE_PATH: &str = "/health/live";
/// How long the connection to an address may take if there is another one to try. A firewall may
/// drop it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// The delay after a response of another process.
const RETRY_DELAY: Duration = Duration::from_micros(200);

/// Checks the servers of this process.
#[derive(Debug, Clone)]
pub struct SelfCheck {
    servers: Vec<(Vec<SocketAddr>, Arc<Service>)>,
}

impl SelfCheck {
    /// Checks these services at the addresses of their listeners.
    #[must_use]
    pub fn new(servers: impl IntoIterator<Item = (SocketAddr, Arc<Service>)>) -> Self {
        let servers = servers.into_iter();
        Self {
            servers: servers
                .map(|(listener, service)| (probe_addresses(listener), service))
                .collect(),
        }
    }

    /// Returns once each server has responded, or is full. The old process may accept from the same
    /// sockets: its responses are ignored, and the request is sent again.
    ///
    /// # Errors
    ///
    /// A server cannot be reached at any of its addresses.
    pub async fn run(&self) -> io::Result<()> {
        for (addresses, service) in &self.servers {
            loop {
                match is_answered_at(addresses, service).await {
                    Ok(true) => break,
                    Ok(false) => tokio::time::sleep(RETRY_DELAY).await,
                    // It refused the connection because it is full, so it works.
                    Err(_) if service.pool().is_full() => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

/// The addresses to check, one after the other until one can be reached. A listener on all
/// addresses also has 127.0.0.2, while the old process may listen on 127.0.0.1. Some machines have
/// only 127.0.0.1.
fn probe_addresses(listener: SocketAddr) -> Vec<SocketAddr> {
    let mut addresses = reachable_addresses(listener);
    if listener.ip() == Ipv4Addr::UNSPECIFIED {
        addresses.insert(0, (Ipv4Addr::new(127, 0, 0, 2), listener.port()).into());
    }
    addresses
}

/// Whether this service responds at the first of these addresses that can be reached.
async fn is_answered_at(addresses: &[SocketAddr], service: &Service) -> io::Result<bool> {
    let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for (index, address) in addresses.iter().enumerate() {
        let connection = TcpStream::connect(address);
        let connected = if index + 1 < addresses.len() {
            let connected = tokio::time::timeout(CONNECT_TIMEOUT, connection).await;
            connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        } else {
            connection.await
        };
        match connected {
            Ok(stream) => return is_answered_by(stream, *address, service).await,
            Err(error) => {
                let text = format!("{address}: {error}");
                failure = io::Error::new(error.kind(), text);
            }
        }
    }
    Err(failure)
}

/// Whether this service, and not that of another process, responds on the connection.
///
/// hyper's client is used instead of reqwest: it is as short, and reqwest would add its connection
/// pool, proxy settings and TLS roots to the memory of an idle daemon.
async fn is_answered_by(
    stream: TcpStream,
    address: SocketAddr,
    service: &Service,
) -> io::Result<bool> {
    let stream = TokioIo::new(stream);
    let (mut sender, connection) = http1::handshake(stream).await.map_err(io::Error::other)?;
    let request = hyper::Request::get(PROBE_PATH)
        .header(HOST, address.to_string())
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(io::Error::other)?;
    let response = async {
        let response = sender.send_request(request).await;
        // Ends the connection.
        drop(sender);
        response
    };
    let (response, _) = tokio::join!(response, connection);
    let response = response.map_err(io::Error::other)?;
    let id = response.headers().get(&REQUEST_ID);
    Ok(id.is_some_and(|id| service.is_own_request_id(id)))
}

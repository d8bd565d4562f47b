//! Checks over TCP, as a client would, that the servers of this process respond. A new process does
//! so before it replaces the old one, and the watchdog before each ping.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
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
use crate::api::reachable_address;

/// Every response shows that the server works, and requests to this path are logged at DEBUG.
const PROBE_PATH: &str = "/health/live";
/// The delay after a response of another process.
const RETRY_DELAY: Duration = Duration::from_micros(200);

/// Checks the servers of this process.
#[derive(Debug, Clone)]
pub struct SelfCheck {
    servers: [(SocketAddr, Arc<Service>); 2],
}

impl SelfCheck {
    /// Checks these services at the addresses of their listeners.
    #[must_use]
    pub fn new(servers: [(SocketAddr, Arc<Service>); 2]) -> Self {
        Self {
            servers: servers.map(|(listener, service)| (probe_address(listener), service)),
        }
    }

    /// Returns once each server has responded, or is full. The old process may accept from the same
    /// sockets: its responses are ignored, and the request is sent again.
    ///
    /// # Errors
    ///
    /// A server cannot be reached.
    pub async fn run(&self) -> io::Result<()> {
        for (address, service) in &self.servers {
            loop {
                match is_answered_by(*address, service).await {
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

/// The address to check. A listener on all addresses also has 127.0.0.2, while the old process may
/// listen on 127.0.0.1.
fn probe_address(listener: SocketAddr) -> SocketAddr {
    if listener.ip() == IpAddr::V4(Ipv4Addr::UNSPECIFIED) {
        (Ipv4Addr::new(127, 0, 0, 2), listener.port()).into()
    } else {
        reachable_address(listener)
    }
}

/// Whether this service, and not that of another process, responds at the address.
///
/// hyper's client is used instead of reqwest: it is as short, and reqwest would add its connection
/// pool, proxy settings and TLS roots to the memory of an idle daemon.
async fn is_answered_by(address: SocketAddr, service: &Service) -> io::Result<bool> {
    let stream = TokioIo::new(TcpStream::connect(address).await?);
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

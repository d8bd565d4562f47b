//! A daemon's proof that it serves: it asks its own servers over TCP, as a client would. A successor does so before it takes
//! over, and a watched daemon before each sign of life.

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

use super::service::{REQUEST_ID, Service};
use crate::api::reachable_address;

/// Any answer will do; below this path a request is logged at DEBUG.
const PROBE_PATH: &str = "/health/live";
/// How soon a server is asked again when another process answered for it.
const RETRY_DELAY: Duration = Duration::from_micros(200);

/// Asks the servers of this process.
#[derive(Debug, Clone)]
pub struct SelfCheck {
    servers: [(SocketAddr, Arc<Service>); 2],
}

impl SelfCheck {
    /// Servers by where they listen.
    #[must_use]
    pub fn new(servers: [(SocketAddr, Arc<Service>); 2]) -> Self {
        Self {
            servers: servers.map(|(listener, service)| (probe_address(listener), service)),
        }
    }

    /// Returns once each server has answered, or has as many clients as it may. A predecessor may accept from the same sockets:
    /// its answers do not count, and the question is asked again.
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
                    // It has closed this connection because it has no room for one more: a sign of life as well.
                    Err(_) if service.connections().is_full() => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

/// Where a listener is asked. Whoever listens on all addresses has all of 127.0.0.0/8, and its predecessor may have had
/// 127.0.0.1 to itself.
fn probe_address(listener: SocketAddr) -> SocketAddr {
    if listener.ip() == IpAddr::V4(Ipv4Addr::UNSPECIFIED) {
        (Ipv4Addr::new(127, 0, 0, 2), listener.port()).into()
    } else {
        reachable_address(listener)
    }
}

/// Whether it is this service that answers there.
async fn is_answered_by(address: SocketAddr, service: &Service) -> io::Result<bool> {
    let stream = TokioIo::new(TcpStream::connect(address).await?);
    let (mut sender, connection) = http1::handshake(stream).await.map_err(io::Error::other)?;
    let request = hyper::Request::get(PROBE_PATH)
        .header(HOST, address.to_string())
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(io::Error::other)?;
    let answer = async {
        let answer = sender.send_request(request).await;
        // So that the connection ends.
        drop(sender);
        answer
    };
    let (answer, _) = tokio::join!(answer, connection);
    let answer = answer.map_err(io::Error::other)?;
    let id = answer.headers().get(&REQUEST_ID);
    Ok(id.is_some_and(|id| service.is_own_request_id(id)))
}

//! `GET /health` on a new connection, like the probe of a load balancer.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Result, ensure};

/// Fullon's response body. Every contender whose throughput is compared sends the same.
pub const BODY: &[u8] = concat!(
    r#"{"status":"healthy","version":""#,
    env!("CARGO_PKG_VERSION"),
    r#"","service":"fullon_master_api"}"#
)
.as_bytes();

/// Timeout of each step of a request.
const TIMEOUT: Duration = Duration::from_secs(2);
const MAX_RESPONSE_SIZE: u64 = 64 * 1024;

/// Sends one request. Fails if no server listens, or if it is not ready.
fn request_health(port: u16) -> io::Result<Vec<u8>> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let request = format!("GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut response = Vec::new();
    stream.take(MAX_RESPONSE_SIZE).read_to_end(&mut response)?;
    Ok(response)
}

/// Whether the response is a 200.
pub fn is_healthy(port: u16) -> bool {
    request_health(port).is_ok_and(|response| has_ok_status(&response))
}

fn has_ok_status(response: &[u8]) -> bool {
    response.starts_with(b"HTTP/1.1 200 ")
}

/// Fails unless the response is a 200 with the expected body.
pub fn expect_healthy(port: u16) -> Result<()> {
    let response = request_health(port)?;
    ensure!(
        has_ok_status(&response) && response.ends_with(BODY),
        "an unexpected answer of /health: {}",
        String::from_utf8_lossy(&response)
    );
    Ok(())
}

//! `GET /health`, asked on a connection of its own as a load balancer's probe does.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Result, ensure};

/// What fullon answers. Whoever is compared by throughput has to answer the same.
pub const BODY: &[u8] = concat!(
    r#"{"status":"healthy","version":""#,
    env!("CARGO_PKG_VERSION"),
    r#"","service":"fullon_master_api"}"#
)
.as_bytes();

/// How long one step of a request may take.
const TIMEOUT: Duration = Duration::from_secs(2);
/// A longer answer is not the one that is expected.
const MAX_ANSWER: u64 = 64 * 1024;

/// Asks once. An error says that nobody listens, or that whoever does is not ready.
fn ask(port: u16) -> io::Result<Vec<u8>> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let request = format!("GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
    Ok(answer)
}

/// Whether the answer is a 200 now.
pub fn is_served(port: u16) -> bool {
    ask(port).is_ok_and(|answer| is_ok(&answer))
}

fn is_ok(answer: &[u8]) -> bool {
    answer.starts_with(b"HTTP/1.1 200 ")
}

/// Asks, and fails unless the answer is a 200 with the expected body.
pub fn expect(port: u16) -> Result<()> {
    let answer = ask(port)?;
    ensure!(
        is_ok(&answer) && answer.ends_with(BODY),
        "an unexpected answer of /health: {}",
        String::from_utf8_lossy(&answer)
    );
    Ok(())
}

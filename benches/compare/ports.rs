//! Free ports below the ephemeral range. A client could be given an ephemeral port of a contender
//! that is stopped, and a client that polls such a port could even connect to itself.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

use anyhow::{Context as _, Result};

const FIRST_PORT: u16 = 10_000;
const RANGE_FILE: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// Hands out each port once.
pub struct Ports(Range<u16>);

impl Ports {
    pub fn new() -> Result<Self> {
        let text = std::fs::read_to_string(RANGE_FILE)?;
        let end: u16 = text
            .split_whitespace()
            .next()
            .and_then(|first| first.parse().ok())
            .with_context(|| format!("{RANGE_FILE} is not understood"))?;
        // Benchmarks that run at the same time start at different ports.
        let offset = std::process::id() % u32::from(end.saturating_sub(FIRST_PORT) / 2).max(1);
        Ok(Self(FIRST_PORT + u16::try_from(offset)?..end))
    }

    pub fn next_free(&mut self) -> Result<u16> {
        self.0
            .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
            .context("no free port on 127.0.0.1")
    }
}

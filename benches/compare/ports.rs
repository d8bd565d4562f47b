//! Free ports below those that the system hands out to clients: from among these, somebody could get a contender's
//! while it is stopped, and a client that polls it could even connect to itself.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

use anyhow::{Context as _, Result};

const FIRST: u16 = 10_000;
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
        // Two benchmarks at once do not begin with the same.
        let offset = std::process::id() % u32::from(end.saturating_sub(FIRST) / 2).max(1);
        Ok(Self(FIRST + u16::try_from(offset)?..end))
    }

    pub fn next_free(&mut self) -> Result<u16> {
        self.0
            .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
            .context("no free port on 127.0.0.1")
    }
}

//! Addresses of listeners.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// Base URL of a listener for clients on this machine.
#[must_use]
pub fn base_url(address: SocketAddr) -> String {
    format!("http://{}", reachable_address(address))
}

/// The address at which a client on this machine reaches a listener. It replaces an unspecified
/// address by loopback.
#[must_use]
pub fn reachable_address(listener: SocketAddr) -> SocketAddr {
    let mut address = listener;
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() {
            Ipv4Addr::LOCALHOST.into()
        } else {
            Ipv6Addr::LOCALHOST.into()
        });
    }
    address
}

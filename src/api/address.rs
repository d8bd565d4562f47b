//! Addresses of listeners.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::sys::is_local_address;

/// Base URL of a listener for clients on this machine. If clients may reach the listener at several
/// addresses, it is one that the machine has.
#[must_use]
pub fn base_url(listener: SocketAddr) -> String {
    let addresses = reachable_addresses(listener);
    if let [only] = *addresses {
        return format!("http://{only}");
    }
    let mut local = addresses.iter().filter(|it| is_local_address(it.ip()));
    let address = local.next().copied();
    format!("http://{}", address.unwrap_or(reachable_address(listener)))
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

/// The addresses at which a client on this machine may reach a listener, the most likely one first.
/// A machine whose IPv6 is disabled has no `::1`. A listener at `::` takes IPv4 connections, too,
/// unless `net.ipv6.bindv6only` is set.
#[must_use]
pub fn reachable_addresses(listener: SocketAddr) -> Vec<SocketAddr> {
    let mut addresses = vec![reachable_address(listener)];
    if listener.ip() == Ipv6Addr::UNSPECIFIED {
        addresses.push((Ipv4Addr::LOCALHOST, listener.port()).into());
    }
    addresses
}

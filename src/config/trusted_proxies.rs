//! `TRUSTED_PROXIES`: the proxies that say which client sent a request.

use std::fmt;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

/// The bits of an IPv4-mapped IPv6 address before the IPv4 address.
const MAPPED_PREFIX_LEN: u8 = 96;

/// The networks of the proxies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Parses a list that is separated by commas or white space.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let entries = text.split(|c: char| c == ',' || c.is_whitespace());
        let entries = entries.filter(|entry| !entry.is_empty());
        entries
            .map(parse_network)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether a proxy with this address is trusted.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The networks that contain all addresses of IPv4 or IPv6.
    pub fn unlimited(&self) -> impl Iterator<Item = &impl fmt::Display> {
        self.0.iter().filter(|network| network.prefix_len() == 0)
    }
}

/// An address is a network of its own.
fn parse_network(text: &str) -> Result<IpNet, String> {
    let network = text
        .parse()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| {
            format!("`{text}` is not an IP address or a network, such as 192.0.2.1 or 10.0.0.0/8")
        })?;
    Ok(unmapped(network).trunc())
}

/// The IPv4 network that an IPv6 network stands for.
fn unmapped(network: IpNet) -> IpNet {
    if let IpAddr::V4(address) = network.addr().to_canonical()
        && let Some(prefix_len) = network.prefix_len().checked_sub(MAPPED_PREFIX_LEN)
        && network.addr().is_ipv6()
        && let Ok(network) = Ipv4Net::new(address, prefix_len)
    {
        return network.into();
    }
    network
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_their_addresses() {
        let proxies =
            TrustedProxies::parse("127.0.0.1, 10.1.2.3/8\n2001:db8::/32 ::1 ::ffff:192.0.2.0/120,");
        let proxies = proxies.unwrap();
        for (address, is_trusted) in [
            ("127.0.0.1", true),
            ("127.0.0.2", false),
            ("10.255.0.1", true),
            ("::ffff:10.0.0.1", true),
            ("11.0.0.1", false),
            ("2001:db8:1::1", true),
            ("2001:db9::1", false),
            ("::1", true),
            ("::2", false),
            ("192.0.2.7", true),
            ("192.0.3.7", false),
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(proxies.contains(address), is_trusted, "{address}");
        }
        assert_eq!(proxies.unlimited().count(), 0);
        let all = TrustedProxies::parse("0.0.0.0/0 ::/0").unwrap();
        let all: Vec<_> = all.unlimited().map(ToString::to_string).collect();
        assert_eq!(all, ["0.0.0.0/0", "::/0"]);
        assert_eq!(
            TrustedProxies::parse(" , ").unwrap(),
            TrustedProxies::default()
        );
    }

    #[test]
    fn error_names_the_entry() {
        for entry in [
            "proxy.example",
            "10.0.0.0/33",
            "10.0.0",
            "10.0.0.1:80",
            "[::1]",
            "::/129",
            "fe80::1%eth0",
            "10.0.0.0/",
            "/8",
            "*",
        ] {
            let error = TrustedProxies::parse(&format!("::1 {entry}")).unwrap_err();
            assert!(error.starts_with(&format!("`{entry}` is not")), "{error}");
        }
    }
}

//! The client of a request that trusted proxies (`TRUSTED_PROXIES`) have passed on.
//!
//! Each proxy appends the address from which it got the request to `X-Forwarded-For`, or to
//! `Forwarded` (RFC 7239). So the list is read from its end: an address is believed if a trusted
//! proxy has appended it. The client is the first that is not trusted itself. A client can only
//! write what is before that.
//!
//! `Forwarded` is read only without `X-Forwarded-For`. Nearly all proxies append to the latter, and
//! pass on a `Forwarded` that the client has sent.

use std::net::{IpAddr, SocketAddr};

use hyper::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};

use crate::config::TrustedProxies;

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The address of the client behind a trusted proxy. It is attached to the request.
#[derive(Debug, Clone, Copy)]
pub struct ForwardedClient(pub IpAddr);

/// The way of a request to a trusted proxy: the client, then the other proxies. If all addresses are
/// trusted, the client is the one that is farthest away. Empty if the proxy names none.
pub fn forwarded_hops(headers: &HeaderMap, trusted: &TrustedProxies) -> Vec<IpAddr> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    if headers.contains_key(&X_FORWARDED_FOR) {
        let lines = headers.get_all(&X_FORWARDED_FOR).iter().rev().map(text);
        let hops = lines.flat_map(|line| {
            let hops = line.rsplit(',').map(parse_node);
            hops.collect::<Vec<_>>()
        });
        return believed(hops, trusted);
    }
    let lines = headers.get_all(FORWARDED).iter().rev().map(text);
    let hops = lines.flat_map(|line| {
        let elements = split_from_end(&line, b',').into_iter();
        elements.map(parse_element).collect::<Vec<_>>()
    });
    believed(hops, trusted)
}

/// An entry of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hop {
    Address(IpAddr),
    /// The list has an empty entry, which means nothing (RFC 9110, section 5.6.1).
    Empty,
    /// A proxy hides the address, or it is no address.
    Unknown,
}

/// The addresses up to the first untrusted one. `hops` has the last one first.
fn believed(hops: impl Iterator<Item = Hop>, trusted: &TrustedProxies) -> Vec<IpAddr> {
    let mut believed = Vec::new();
    for hop in hops {
        match hop {
            Hop::Address(address) => {
                believed.push(address);
                if !trusted.contains(address) {
                    break;
                }
            }
            Hop::Empty => {}
            Hop::Unknown => break,
        }
    }
    believed.reverse();
    believed
}

/// An element of `Forwarded`: parameters that are separated by semicolons.
fn parse_element(element: &str) -> Hop {
    if element.trim_ascii().is_empty() {
        return Hop::Empty;
    }
    let parameters = split_from_end(element, b';').into_iter();
    let mut clients = parameters.filter_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim_ascii()
            .eq_ignore_ascii_case("for")
            .then_some(value)
    });
    match (clients.next(), clients.next()) {
        (Some(value), None) => match parse_node(value) {
            Hop::Empty => Hop::Unknown,
            hop => hop,
        },
        _ => Hop::Unknown,
    }
}

/// An address, with or without port, brackets and quotes.
fn parse_node(text: &str) -> Hop {
    let text = text.trim_ascii();
    let quoted = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    let text = quoted.unwrap_or(text);
    if text.is_empty() {
        return Hop::Empty;
    }
    let in_brackets = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let address = in_brackets.map_or_else(
        || {
            let with_port = |_| text.parse::<SocketAddr>().map(|socket| socket.ip());
            text.parse().or_else(with_port).ok()
        },
        |address| address.parse().ok().filter(IpAddr::is_ipv6),
    );
    address.map_or(Hop::Unknown, |address: IpAddr| {
        Hop::Address(address.to_canonical())
    })
}

/// Splits at the separators outside quotes, the last part first. Quotes are matched from the end: an
/// open one that a client has sent must not hide what a proxy has appended.
fn split_from_end(text: &str, separator: u8) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut end, mut is_quoted) = (text.len(), false);
    for (at, byte) in text.bytes().enumerate().rev() {
        if byte == b'"' {
            is_quoted = !is_quoted;
        } else if byte == separator && !is_quoted {
            parts.push(&text[at + 1..end]);
            end = at;
        }
    }
    parts.push(&text[..end]);
    parts
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::{EnvFileChoice, Flags, Settings, Sources};

    /// 10.0.0.0/8 and `2001:db8::/32` are trusted.
    fn trusted() -> TrustedProxies {
        let networks = "10.0.0.0/8 2001:db8::/32";
        let flags = Flags::from([("TRUSTED_PROXIES".to_owned(), networks.to_owned())]);
        let file = EnvFileChoice::Explicit("/dev/null".into());
        let sources = Sources::read(&flags, &file, "/".as_ref(), &BTreeMap::new());
        Settings::load(&sources).unwrap().trusted_proxies
    }

    /// The client of a request with these header lines.
    fn client(lines: &[(&str, &[u8])]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_bytes(value).unwrap());
        }
        let hops = forwarded_hops(&headers, &trusted());
        hops.first().map(IpAddr::to_string)
    }

    #[test]
    fn hops_are_the_believed_part_of_the_list() {
        let mut headers = HeaderMap::new();
        let list = HeaderValue::from_static("9.9.9.9, 192.0.2.1, 10.1.1.1,, 10.2.2.2");
        headers.insert(&X_FORWARDED_FOR, list);
        let hops = forwarded_hops(&headers, &trusted()).into_iter();
        let hops: Vec<_> = hops.map(|hop| hop.to_string()).collect();
        assert_eq!(hops, ["192.0.2.1", "10.1.1.1", "10.2.2.2"]);
    }

    #[test]
    fn client_is_last_untrusted_address_of_x_forwarded_for() {
        for (lines, expected) in [
            (&["192.0.2.1"][..], Some("192.0.2.1")),
            (&["9.9.9.9, 192.0.2.1"], Some("192.0.2.1")),
            (&["9.9.9.9, 192.0.2.1, 10.1.1.1"], Some("192.0.2.1")),
            (
                &["9.9.9.9,192.0.2.1,10.1.1.1,2001:db8::2"],
                Some("192.0.2.1"),
            ),
            (&["9.9.9.9", "192.0.2.1, 10.1.1.1"], Some("192.0.2.1")),
            (&["192.0.2.1", "10.1.1.1"], Some("192.0.2.1")),
            // All are trusted.
            (&["10.2.2.2, 10.1.1.1"], Some("10.2.2.2")),
            // Empty elements.
            (&[",, 192.0.2.1 , ,10.1.1.1, "], Some("192.0.2.1")),
            (&["192.0.2.1", ""], Some("192.0.2.1")),
            (&["", " , "], None),
            // Ports, as Azure sends them.
            (&["192.0.2.1:51234"], Some("192.0.2.1")),
            (&["[2001:db9::1]:51234"], Some("2001:db9::1")),
            (&["[2001:db9::1]"], Some("2001:db9::1")),
            (&["2001:db9::1, [2001:db8::2]:80"], Some("2001:db9::1")),
            (&["\"[2001:db9::1]:4711\""], Some("2001:db9::1")),
            // IPv4-mapped addresses.
            (&["::ffff:192.0.2.1"], Some("192.0.2.1")),
            (&["9.9.9.9, 192.0.2.1, ::ffff:10.1.1.1"], Some("192.0.2.1")),
            (&["192.0.2.1, ::ffff:a01:101"], Some("192.0.2.1")),
            // No address: nothing before it is believed.
            (&["unknown"], None),
            (&["9.9.9.9, unknown, 10.1.1.1"], Some("10.1.1.1")),
            (&["9.9.9.9, _hidden, 10.1.1.1"], Some("10.1.1.1")),
            (&["9.9.9.9, 10.1.1.1.1, 10.1.1.1"], Some("10.1.1.1")),
            (&["9.9.9.9 10.1.1.1"], None),
            (&["010.1.1.1"], None),
            (&["[192.0.2.1]"], None),
            (&["fe80::1%eth0"], None),
            (&["192.0.2.1:99999"], None),
            (&["a\u{e4}"], None),
        ] {
            let lines: Vec<_> = lines
                .iter()
                .map(|line| ("X-Forwarded-For", line.as_bytes()))
                .collect();
            let found = client(&lines);
            assert_eq!(found.as_deref(), expected, "{lines:?}");
        }
        assert_eq!(
            client(&[("X-Forwarded-For", b"9.9.9.9, \xff, 10.1.1.1")]).as_deref(),
            Some("10.1.1.1")
        );
        assert_eq!(client(&[]), None);
    }

    #[test]
    fn client_is_last_untrusted_address_of_forwarded() {
        for (lines, expected) in [
            (&["for=192.0.2.1"][..], Some("192.0.2.1")),
            (
                &["for=9.9.9.9, for=192.0.2.1;by=10.1.1.1;proto=https"],
                Some("192.0.2.1"),
            ),
            (
                &["For=\"[2001:db9:cafe::17]:4711\""],
                Some("2001:db9:cafe::17"),
            ),
            (
                &["for=\"192.0.2.1:80\" , FOR = 10.1.1.1"],
                Some("192.0.2.1"),
            ),
            (
                &["for=9.9.9.9", "by=x; for=192.0.2.1, for=10.1.1.1"],
                Some("192.0.2.1"),
            ),
            (&["for=192.0.2.1,,for=10.1.1.1,"], Some("192.0.2.1")),
            (
                &["for=9.9.9.9,for=192.0.2.1;host=\"a,b;for=8.8.8.8\""],
                Some("192.0.2.1"),
            ),
            // Names that a proxy has made up, and elements without a client.
            (
                &["for=9.9.9.9, for=_mystery, for=10.1.1.1"],
                Some("10.1.1.1"),
            ),
            (
                &["for=9.9.9.9, for=unknown, for=10.1.1.1"],
                Some("10.1.1.1"),
            ),
            (
                &["for=9.9.9.9, proto=https, for=10.1.1.1"],
                Some("10.1.1.1"),
            ),
            (&["for=, for=10.1.1.1"], Some("10.1.1.1")),
            (&["for=9.9.9.9;for=8.8.8.8"], None),
            (&["192.0.2.1"], None),
            // An open quote of the client.
            (&["for=\"9.9.9.9, for=192.0.2.1"], Some("192.0.2.1")),
            (&["for=\"9.9.9.9", "for=192.0.2.1"], Some("192.0.2.1")),
            (
                &["for=\"9.9.9.9\\\", for=192.0.2.1;host=\"a\""],
                Some("192.0.2.1"),
            ),
        ] {
            let lines: Vec<_> = lines
                .iter()
                .map(|line| ("Forwarded", line.as_bytes()))
                .collect();
            assert_eq!(client(&lines).as_deref(), expected, "{lines:?}");
        }
    }

    #[test]
    fn forwarded_of_a_client_does_not_matter_beside_the_other() {
        let both = client(&[
            ("Forwarded", b"for=9.9.9.9"),
            ("X-Forwarded-For", b"192.0.2.1"),
        ]);
        assert_eq!(both.as_deref(), Some("192.0.2.1"));
        assert_eq!(
            client(&[("Forwarded", b"for=9.9.9.9"), ("X-Forwarded-For", b"")]),
            None
        );
    }
}

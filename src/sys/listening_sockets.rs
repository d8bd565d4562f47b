//! The listening TCP sockets of a port, and the users that they belong to, as the kernel reports
//! them.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::net::{recv, sendto, socket_with};

/// `AF_INET` and `AF_INET6`.
const FAMILIES: [u8; 2] = [2, 10];
const IPPROTO_TCP: u8 = 6;
/// `TCP_LISTEN`, a state in `tcp_states.h`.
const TCP_LISTEN: u32 = 10;
/// `SOCK_DIAG_BY_FAMILY`, the type of the request and of each socket in the answer.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// `NLM_F_REQUEST | NLM_F_DUMP`
const REQUEST_ALL: u16 = 0x301;
/// Length of a message header (`struct nlmsghdr`).
const HEADER: usize = 16;
/// Length of a request (`struct inet_diag_req_v2`).
const REQUEST: usize = 56;
/// Length of a socket in the answer (`struct inet_diag_msg`), without its attributes.
const SOCKET: usize = 72;
/// The attribute that says whether a socket of IPv6 takes no connections of IPv4.
const INET_DIAG_SKV6ONLY: u16 = 11;
/// The kernel sends at most this much at once (`NL_DUMP_SIZE` is smaller).
const BUFFER: usize = 64 * 1024;

/// A listening socket.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListeningSocket {
    /// The address that it listens at.
    pub address: SocketAddr,
    /// The user that created it. A user that this user namespace does not know is 65534.
    pub uid: u32,
    /// Its inode, which no other open socket has.
    pub inode: u64,
    takes_ipv4: bool,
}

impl ListeningSocket {
    /// Whether it could accept a connection to the address.
    fn accepts(&self, address: SocketAddr) -> bool {
        let is_accepted = match (self.address.ip(), address.ip()) {
            (IpAddr::V6(own), IpAddr::V4(wanted)) => {
                let mapped = own.to_ipv4_mapped();
                let is_any = own.is_unspecified() || mapped.is_some_and(|own| own.is_unspecified());
                self.takes_ipv4 && (is_any || mapped == Some(wanted))
            }
            (own, wanted) => {
                own == wanted || own.is_unspecified() && own.is_ipv4() == wanted.is_ipv4()
            }
        };
        is_accepted && self.address.port() == address.port()
    }
}

/// All sockets that could accept a connection to the address, in a fixed order.
///
/// # Errors
///
/// The system does not report them.
pub fn sockets_accepting(address: SocketAddr) -> io::Result<Vec<ListeningSocket>> {
    let address = SocketAddr::new(address.ip().to_canonical(), address.port());
    // `proc_net(5)` is there without netlink, such as under `RestrictAddressFamilies=`, but a
    // hundred times slower on a machine with many connections.
    let sockets = query_kernel(address.port()).or_else(|_| read_tables(address.port()));
    let mut sockets = sockets?;
    sockets.retain(|socket| socket.accepts(address));
    sockets.sort();
    Ok(sockets)
}

/// Asks the kernel (`sock_diag(7)`).
fn query_kernel(port: u16) -> io::Result<Vec<ListeningSocket>> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(SOCK_DIAG),
    )?;
    let mut sockets = Vec::new();
    let mut buffer = vec![0; BUFFER];
    for family in FAMILIES {
        let request = diag_request(family, port);
        sendto(
            &socket,
            &request,
            SendFlags::empty(),
            &SocketAddrNetlink::new(0, 0),
        )?;
        loop {
            let (_, length) = recv(&socket, &mut buffer[..], RecvFlags::TRUNC)?;
            let answer = buffer.get(..length).ok_or(io::ErrorKind::InvalidData)?;
            if parse_answer(answer, &mut sockets)? {
                break;
            }
        }
    }
    Ok(sockets)
}

/// The request for all listening sockets of this port and address family.
fn diag_request(family: u8, port: u16) -> Vec<u8> {
    let length = HEADER + REQUEST;
    let mut request = Vec::with_capacity(length);
    request.extend(u32::try_from(length).unwrap_or_default().to_ne_bytes());
    request.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend(REQUEST_ALL.to_ne_bytes());
    // Sequence number and port of the sender.
    request.extend([0; 8]);
    request.extend([family, IPPROTO_TCP, 0, 0]);
    request.extend((1_u32 << TCP_LISTEN).to_ne_bytes());
    request.extend(port.to_be_bytes());
    request.resize(length, 0);
    request
}

/// Adds the sockets of a part of the answer. Returns whether it was the last part.
fn parse_answer(mut answer: &[u8], sockets: &mut Vec<ListeningSocket>) -> io::Result<bool> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    while !answer.is_empty() {
        let length = u32_at(answer, 0).ok_or_else(invalid)? as usize;
        let kind = u16_at(answer, 4).ok_or_else(invalid)?;
        let content = answer.get(HEADER..length).ok_or_else(invalid)?;
        match kind {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => {
                let code = u32_at(content, 0).ok_or_else(invalid)?.cast_signed();
                return Err(io::Error::from_raw_os_error(code.saturating_neg()));
            }
            SOCK_DIAG_BY_FAMILY => sockets.push(parse_socket(content).ok_or_else(invalid)?),
            _ => {}
        }
        answer = answer.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// Parses a `struct inet_diag_msg` and its attributes.
fn parse_socket(content: &[u8]) -> Option<ListeningSocket> {
    let port = u16::from_be_bytes(content.get(4..6)?.try_into().ok()?);
    let source = content.get(8..24)?;
    let ip: IpAddr = if content.first() == FAMILIES.first() {
        let bytes: [u8; 4] = source.get(..4)?.try_into().ok()?;
        Ipv4Addr::from(bytes).into()
    } else {
        let bytes: [u8; 16] = source.try_into().ok()?;
        Ipv6Addr::from(bytes).into()
    };
    let mut takes_ipv4 = true;
    let mut attributes = content.get(SOCKET..)?;
    while let (Some(length), Some(kind)) = (u16_at(attributes, 0), u16_at(attributes, 2)) {
        if kind == INET_DIAG_SKV6ONLY {
            takes_ipv4 = attributes.get(4)? == &0;
        }
        let next = usize::from(length).max(4).next_multiple_of(4);
        attributes = attributes.get(next..).unwrap_or_default();
    }
    Some(ListeningSocket {
        address: (ip, port).into(),
        uid: u32_at(content, 64)?,
        inode: u32_at(content, 68)?.into(),
        takes_ipv4,
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Reads the tables of `proc_net(5)`.
fn read_tables(port: u16) -> io::Result<Vec<ListeningSocket>> {
    let mut sockets = parse_table(&fs::read_to_string("/proc/self/net/tcp")?, port);
    match fs::read_to_string("/proc/self/net/tcp6") {
        Ok(table) => sockets.extend(parse_table(&table, port)),
        // The machine has no IPv6.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(sockets)
}

/// The listening sockets of this port. Column 2 is the local address, column 4 the state (0A is
/// LISTEN), column 8 the user, and column 10 the inode.
pub fn parse_table(table: &str, port: u16) -> Vec<ListeningSocket> {
    let parse_line = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        if *columns.get(3)? != "0A" {
            return None;
        }
        let (ip, local_port) = columns.get(1)?.split_once(':')?;
        let socket = ListeningSocket {
            address: (parse_ip(ip)?, u16::from_str_radix(local_port, 16).ok()?).into(),
            uid: columns.get(7)?.parse().ok()?,
            inode: columns.get(9)?.parse().ok()?,
            // The tables do not say.
            takes_ipv4: true,
        };
        (socket.address.port() == port).then_some(socket)
    };
    table.lines().skip(1).filter_map(parse_line).collect()
}

/// Parses groups of eight hexadecimal digits, each a number in the machine's byte order.
fn parse_ip(text: &str) -> Option<IpAddr> {
    let mut bytes = Vec::with_capacity(16);
    for start in (0..text.len()).step_by(8) {
        let group = u32::from_str_radix(text.get(start..start + 8)?, 16).ok()?;
        bytes.extend(group.to_ne_bytes());
    }
    match bytes.len() {
        4 => Some(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        16 => Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use nix::unistd::geteuid;

    use super::*;

    fn assert_found(listener: &TcpListener, connect_to: &str, is_expected: bool) {
        let local = listener.local_addr().unwrap();
        let to = SocketAddr::new(connect_to.parse().unwrap(), local.port());
        let mut found = query_kernel(local.port()).unwrap();
        let mut tables = read_tables(local.port()).unwrap();
        found.retain(|socket| socket.address == local);
        tables.retain(|socket| socket.address == local);
        for sockets in [&found, &tables] {
            assert_eq!(sockets[0].uid, geteuid().as_raw());
            assert_eq!(sockets[0].inode, found[0].inode);
        }
        let sockets = sockets_accepting(to).unwrap();
        assert_eq!(sockets.contains(&found[0]), is_expected, "{local} {to}");
    }

    #[test]
    fn sockets_that_could_accept_a_connection_are_found() {
        for (at, to, is_expected) in [
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.2", "127.0.0.1", false),
            ("0.0.0.0", "127.0.0.1", true),
            ("[::]", "127.0.0.1", true),
            ("[::ffff:127.0.0.1]", "127.0.0.1", true),
            ("[::1]", "127.0.0.1", false),
            ("[::1]", "::1", true),
            ("[::]", "::1", true),
            ("0.0.0.0", "::1", false),
        ] {
            let listener = TcpListener::bind(format!("{at}:0")).unwrap();
            assert_found(&listener, to, is_expected);
        }
    }

    #[test]
    fn socket_for_ipv6_only_takes_no_connection_of_ipv4() {
        let socket = rustix::net::socket(AddressFamily::INET6, SocketType::STREAM, None).unwrap();
        rustix::net::sockopt::set_ipv6_v6only(&socket, true).unwrap();
        let any: SocketAddr = "[::]:0".parse().unwrap();
        rustix::net::bind(&socket, &any).unwrap();
        rustix::net::listen(&socket, 1).unwrap();
        let listener = TcpListener::from(socket);
        assert_found(&listener, "127.0.0.1", false);
        assert_found(&listener, "::1", true);
    }

    #[test]
    fn malformed_answer_is_an_error() {
        let mut sockets = Vec::new();
        for answer in [&[1][..], &[255; 16], &[20, 0, 0, 0, 20, 0, 0, 0]] {
            assert!(parse_answer(answer, &mut sockets).is_err());
        }
        assert!(parse_answer(&[0; 16], &mut sockets).is_err());
    }
}

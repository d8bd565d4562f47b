//! The TCP sockets of a port, and the users that they belong to, as the kernel reports them.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use nix::unistd::geteuid;
use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::net::{recv, sendto, socket_with};
use uuid::Uuid;

const ROOT: u32 = 0;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
/// `TCP_ESTABLISHED`, a state in `tcp_states.h`.
const TCP_ESTABLISHED: u8 = 1;
/// `TCP_SYN_RECV`
const TCP_SYN_RECV: u8 = 3;
/// `TCP_FIN_WAIT1`
const TCP_FIN_WAIT1: u8 = 4;
/// `TCP_FIN_WAIT2`
const TCP_FIN_WAIT2: u8 = 5;
/// `TCP_TIME_WAIT`
const TCP_TIME_WAIT: u8 = 6;
/// `TCP_LAST_ACK`
const TCP_LAST_ACK: u8 = 9;
/// `TCP_CLOSING`
const TCP_CLOSING: u8 = 11;
/// `TCP_LISTEN`
const TCP_LISTEN: u8 = 10;
/// All states, also that of sockets that are only bound (`TCP_BOUND_INACTIVE`, Linux 6.8).
const ALL_STATES: u32 = u32::MAX;
/// `SOCK_DIAG_BY_FAMILY`, the type of a request for one family, and of each socket in the answer.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// `TCPDIAG_GETSOCK`, the type of a request for IPv4 and IPv6 at once, and of each socket in the
/// answer. The kernel walks through the tables of all connections for each dump.
const TCPDIAG_GETSOCK: u16 = 18;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// `NLM_F_REQUEST`: one socket, found by both of its addresses.
const REQUEST_ONE: u16 = 1;
/// `NLM_F_REQUEST | NLM_F_DUMP`
const REQUEST_ALL: u16 = 0x301;
/// Length of a message header (`struct nlmsghdr`).
const HEADER: usize = 16;
/// Length of a request for one family (`struct inet_diag_req_v2`).
const REQUEST: usize = 56;
/// Length of a request for both families (`struct inet_diag_req`).
const REQUEST_BOTH: usize = 60;
/// Length of a socket in the answer (`struct inet_diag_msg`), without its attributes.
const SOCKET: usize = 72;
/// `INET_DIAG_NOCOOKIE`: the socket may be any with these addresses.
const NO_COOKIE: [u8; 8] = [0xff; 8];
/// The attribute that says whether a socket of IPv6 takes no connections of IPv4.
const INET_DIAG_SKV6ONLY: u16 = 11;
/// The kernel sends at most this much at once (`NL_DUMP_SIZE` is smaller).
const BUFFER: usize = 64 * 1024;

/// A TCP socket.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TcpSocket {
    /// Its own address.
    pub address: SocketAddr,
    /// The address that it is connected to, or 0.
    pub remote: SocketAddr,
    state: u8,
    /// The user that created it. A user that this user namespace does not know is 65534.
    pub uid: u32,
    /// Its inode, which no other open socket has. 0 before its program has accepted it, and after
    /// its program has closed it.
    pub inode: u64,
    takes_ipv4: bool,
}

/// Why the kernel keeps a connection that its program has closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Delayed packets may arrive.
    TimeWait,
    /// The other end has not closed it.
    FinWait2,
    /// The other end has not acknowledged the end, or data before it. With the name of the state.
    Unacknowledged(&'static str),
}

impl TcpSocket {
    /// Why it is still there, if its program has closed it.
    pub fn ending(&self) -> Option<Ending> {
        let state = match self.state {
            TCP_TIME_WAIT => Ending::TimeWait,
            TCP_FIN_WAIT2 => Ending::FinWait2,
            TCP_FIN_WAIT1 => Ending::Unacknowledged("FIN_WAIT1"),
            TCP_CLOSING => Ending::Unacknowledged("CLOSING"),
            TCP_LAST_ACK => Ending::Unacknowledged("LAST_ACK"),
            _ => return None,
        };
        (self.inode == 0).then_some(state)
    }

    /// The connection is not established yet.
    pub fn is_connecting(&self) -> bool {
        self.state == TCP_SYN_RECV
    }

    /// No program has the connection, and none can accept it.
    pub fn is_closed(&self) -> bool {
        self.inode == 0 && self.state != TCP_ESTABLISHED
    }

    /// Whether it keeps a listener from the address, at the same port.
    pub(super) fn overlaps(&self, address: SocketAddr) -> bool {
        let is_covered =
            address.ip().is_unspecified() && (address.is_ipv6() || self.address.is_ipv4());
        is_covered || self.is_at(canonical(address))
    }

    /// Whether packets to the address could reach it.
    fn is_at(&self, address: SocketAddr) -> bool {
        let is_at_ip = match (self.address.ip(), address.ip()) {
            (IpAddr::V6(own), IpAddr::V4(wanted)) => {
                let mapped = own.to_ipv4_mapped();
                let is_any = own.is_unspecified() || mapped.is_some_and(|own| own.is_unspecified());
                self.takes_ipv4 && (is_any || mapped == Some(wanted))
            }
            (own, wanted) => {
                own == wanted || own.is_unspecified() && own.is_ipv4() == wanted.is_ipv4()
            }
        };
        is_at_ip && self.address.port() == address.port()
    }
}

/// All sockets that listen for connections to the address, in a fixed order.
///
/// # Errors
///
/// The system does not report them.
pub fn sockets_accepting(address: SocketAddr) -> io::Result<Vec<TcpSocket>> {
    let address = canonical(address);
    let mut sockets = listeners_at_port(address.port())?;
    sockets.retain(|socket| socket.is_at(address));
    sockets.sort();
    Ok(sockets)
}

/// All sockets that listen at the port.
pub(super) fn listeners_at_port(port: u16) -> io::Result<Vec<TcpSocket>> {
    // `proc_net(5)` is there without netlink, such as under `RestrictAddressFamilies=`, but a
    // hundred times slower on a machine with many connections.
    let sockets = query_all(port, 1 << TCP_LISTEN).or_else(|_| read_tables());
    let mut sockets = sockets?;
    sockets.retain(|socket| socket.state == TCP_LISTEN && socket.address.port() == port);
    Ok(sockets)
}

/// A socket of another user, but root, at this port, at any address. The kernel gives packets to a
/// connected socket before one that listens, so its program can take over connections.
///
/// Before Linux 6.8, the kernel does not report sockets that are only bound. A socket that changes
/// its state at the right moment is not seen; see [`foreign_socket_in_repeated_looks`].
///
/// # Errors
///
/// The kernel does not report the sockets.
pub fn foreign_socket_at_port(port: u16) -> io::Result<Option<TcpSocket>> {
    let own = [geteuid().as_raw(), ROOT];
    let sockets = query_all(port, ALL_STATES)?;
    // A query for port 0 is answered with the sockets of all ports.
    let mut foreign = sockets
        .into_iter()
        .filter(|socket| socket.address.port() == port && !own.contains(&socket.uid));
    Ok(foreign.next())
}

/// A socket at this port besides the listener at `own`: one that is open rather than one that is
/// closed, and one at another address rather than a connection of that listener.
///
/// # Errors
///
/// The kernel does not report the sockets.
pub fn other_socket_at_port(own: SocketAddr) -> io::Result<Option<TcpSocket>> {
    let sockets = query_all(own.port(), ALL_STATES)?;
    let others = sockets.into_iter().filter(|socket| {
        socket.address.port() == own.port()
            && !(socket.state == TCP_LISTEN && socket.address == own)
    });
    Ok(others.min_by_key(|socket| (socket.is_closed(), socket.address == own)))
}

/// A socket that keeps a listener from the address: one that is open rather than one that is closed.
///
/// # Errors
///
/// The kernel does not report the sockets.
pub fn overlapping_socket(address: SocketAddr) -> io::Result<Option<TcpSocket>> {
    let sockets = query_all(address.port(), ALL_STATES)?;
    let overlapping = sockets
        .into_iter()
        .filter(|socket| socket.address.port() == address.port() && socket.overlaps(address));
    Ok(overlapping.min_by_key(TcpSocket::is_closed))
}

/// [`foreign_socket_at_port`], looked up repeatedly at random times, in 0.1 s on average. A program that
/// hides its sockets from one look cannot hide them from all.
///
/// # Errors
///
/// The kernel does not report the sockets.
pub fn foreign_socket_in_repeated_looks(port: u16) -> io::Result<Option<TcpSocket>> {
    for pause in [Uuid::new_v4(), Uuid::new_v4()]
        .iter()
        .flat_map(Uuid::as_bytes)
    {
        let foreign = foreign_socket_at_port(port)?;
        if foreign.is_some() {
            return Ok(foreign);
        }
        thread::sleep(Duration::from_micros(u64::from(*pause) * 25));
    }
    Ok(None)
}

/// The socket at `server` that is connected to the one at `client`, both on this machine.
///
/// # Errors
///
/// The system does not report it.
pub fn connected_socket(server: SocketAddr, client: SocketAddr) -> io::Result<Option<TcpSocket>> {
    let (server, client) = (canonical(server), canonical(client));
    let sockets = query_one(server, client).or_else(|_| read_tables())?;
    Ok(sockets
        .into_iter()
        .find(|socket| canonical(socket.address) == server && canonical(socket.remote) == client))
}

/// The address without the notation for IPv4 in IPv6.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Asks the kernel for all sockets of this port in these states (`sock_diag(7)`).
fn query_all(port: u16, states: u32) -> io::Result<Vec<TcpSocket>> {
    let mut sockets = Vec::new();
    query(&dump_request(states, port), &mut sockets)?;
    Ok(sockets)
}

/// Asks the kernel for the socket with these addresses. There is at most one.
fn query_one(local: SocketAddr, remote: SocketAddr) -> io::Result<Vec<TcpSocket>> {
    let mut sockets = Vec::new();
    let request = one_request(local, remote);
    match query(&request, &mut sockets) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        result => result.map(|()| sockets),
    }
}

/// Sends a request, and adds the sockets of the answer.
fn query(request: &[u8], sockets: &mut Vec<TcpSocket>) -> io::Result<()> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(SOCK_DIAG),
    )?;
    sendto(
        &socket,
        request,
        SendFlags::empty(),
        &SocketAddrNetlink::new(0, 0),
    )?;
    let is_dump = u16_at(request, 6) == Some(REQUEST_ALL);
    let mut buffer = vec![0; BUFFER];
    loop {
        let (_, length) = recv(&socket, &mut buffer[..], RecvFlags::TRUNC)?;
        let answer = buffer.get(..length).ok_or(io::ErrorKind::InvalidData)?;
        if parse_answer(answer, sockets)? || !is_dump {
            return Ok(());
        }
    }
}

/// The header of a request (`struct nlmsghdr`), with room for its content.
fn request_header(kind: u16, flags: u16, content: usize) -> Vec<u8> {
    let length = HEADER + content;
    let mut request = Vec::with_capacity(length);
    request.extend(u32::try_from(length).unwrap_or_default().to_ne_bytes());
    request.extend(kind.to_ne_bytes());
    request.extend(flags.to_ne_bytes());
    // Sequence number and port of the sender.
    request.extend([0; 8]);
    request
}

/// Adds the addresses of a socket (`struct inet_diag_sockid`).
fn add_socket_id(request: &mut Vec<u8>, local: SocketAddr, remote: SocketAddr) {
    for port in [local.port(), remote.port()] {
        request.extend(port.to_be_bytes());
    }
    for ip in [local.ip(), remote.ip()] {
        let start = request.len();
        match ip {
            IpAddr::V4(ip) => request.extend(ip.octets()),
            IpAddr::V6(ip) => request.extend(ip.octets()),
        }
        request.resize(start + 16, 0);
    }
    // The interface.
    request.extend([0; 4]);
    request.extend(NO_COOKIE);
}

/// A request for the socket with these addresses.
fn one_request(local: SocketAddr, remote: SocketAddr) -> Vec<u8> {
    let mut request = request_header(SOCK_DIAG_BY_FAMILY, REQUEST_ONE, REQUEST);
    let family = if local.is_ipv4() { AF_INET } else { AF_INET6 };
    request.extend([family, IPPROTO_TCP, 0, 0]);
    request.extend(ALL_STATES.to_ne_bytes());
    add_socket_id(&mut request, local, remote);
    request
}

/// A request for all sockets of this port in these states.
fn dump_request(states: u32, port: u16) -> Vec<u8> {
    let mut request = request_header(TCPDIAG_GETSOCK, REQUEST_ALL, REQUEST_BOTH);
    // The family and the lengths of addresses are ignored.
    request.extend([0; 4]);
    let any = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    add_socket_id(&mut request, any(port), any(0));
    request.extend(states.to_ne_bytes());
    request.extend([0; 4]);
    request
}

/// Adds the sockets of a part of the answer. Returns whether it was the last part.
fn parse_answer(mut answer: &[u8], sockets: &mut Vec<TcpSocket>) -> io::Result<bool> {
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
            SOCK_DIAG_BY_FAMILY | TCPDIAG_GETSOCK => {
                sockets.push(parse_socket(content).ok_or_else(invalid)?);
            }
            _ => {}
        }
        answer = answer.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// Parses a `struct inet_diag_msg` and its attributes.
fn parse_socket(content: &[u8]) -> Option<TcpSocket> {
    let (family, state) = (*content.first()?, *content.get(1)?);
    let parse_address = |port: usize, ip: usize| {
        let port = u16::from_be_bytes(content.get(port..port + 2)?.try_into().ok()?);
        let bytes: [u8; 16] = content.get(ip..ip + 16)?.try_into().ok()?;
        let ip = match (family, bytes) {
            (AF_INET, [a, b, c, d, ..]) => Ipv4Addr::new(a, b, c, d).into(),
            _ => IpAddr::from(bytes),
        };
        Some(SocketAddr::new(ip, port))
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
    Some(TcpSocket {
        address: parse_address(4, 8)?,
        remote: parse_address(6, 24)?,
        state,
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
fn read_tables() -> io::Result<Vec<TcpSocket>> {
    let mut sockets = parse_table(&fs::read_to_string("/proc/self/net/tcp")?);
    match fs::read_to_string("/proc/self/net/tcp6") {
        Ok(table) => sockets.extend(parse_table(&table)),
        // The machine has no IPv6.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(sockets)
}

/// The sockets that listen on this port.
pub fn parse_listeners(table: &str, port: u16) -> Vec<TcpSocket> {
    let mut sockets = parse_table(table);
    sockets.retain(|socket| socket.state == TCP_LISTEN && socket.address.port() == port);
    sockets
}

/// The sockets in a table. Columns 2 and 3 are the addresses, column 4 the state, column 8 the
/// user, and column 10 the inode.
fn parse_table(table: &str) -> Vec<TcpSocket> {
    let parse_address = |text: &str| {
        let (ip, port) = text.split_once(':')?;
        Some(SocketAddr::new(
            parse_ip(ip)?,
            u16::from_str_radix(port, 16).ok()?,
        ))
    };
    let parse_line = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        Some(TcpSocket {
            address: parse_address(columns.get(1)?)?,
            remote: parse_address(columns.get(2)?)?,
            state: u8::from_str_radix(columns.get(3)?, 16).ok()?,
            uid: columns.get(7)?.parse().ok()?,
            inode: columns.get(9)?.parse().ok()?,
            // The tables do not say.
            takes_ipv4: true,
        })
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
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn assert_found(listener: &TcpListener, connect_to: &str, is_expected: bool) {
        let local = listener.local_addr().unwrap();
        let to = SocketAddr::new(connect_to.parse().unwrap(), local.port());
        let mut found = query_all(local.port(), 1 << TCP_LISTEN).unwrap();
        let mut tables = read_tables().unwrap();
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

    #[test]
    fn other_end_of_a_connection_is_found() {
        for bound in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0", "[::1]:0"] {
            let listener = TcpListener::bind(bound).unwrap();
            let mut server = listener.local_addr().unwrap();
            let loopback = match bound {
                "[::1]:0" => "::1",
                _ => "127.0.0.1",
            };
            server.set_ip(loopback.parse().unwrap());
            let stream = TcpStream::connect(server).unwrap();
            let client = stream.local_addr().unwrap();
            assert_eq!(connected_socket(client, client).unwrap(), None, "{bound}");
            let is_found = |sockets: Vec<TcpSocket>| {
                sockets.iter().any(|socket| {
                    canonical(socket.address) == server && canonical(socket.remote) == client
                })
            };
            let (_accepted, _) = listener.accept().unwrap();
            let found = connected_socket(server, client).unwrap().unwrap();
            assert_eq!(found.uid, geteuid().as_raw(), "{bound}");
            assert_ne!(found.inode, 0, "{bound}");
            assert!(is_found(query_one(server, client).unwrap()), "{bound}");
            assert!(is_found(read_tables().unwrap()), "{bound}");
            drop(listener);
        }
    }
}

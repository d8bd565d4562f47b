//! Listening TCP sockets.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener as StdListener, UdpSocket};
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::sockopt;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpSocket};

use super::tcp_sockets::sockets_accepting;

/// How many connections the kernel queues. A pause of the process must not make a client retry its
/// SYN.
pub(crate) const BACKLOG: u32 = 4096;

/// Identifies a socket among all of this machine: no other has the same id before or after it
/// (`SO_COOKIE` in `socket(7)`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketId {
    /// The kernel counts again after a boot. `None` if the system hides which boot this is, as with
    /// `ProcSubset=pid` of systemd.
    boot: Option<String>,
    /// When this boot began, in seconds of the clock. It changes when the clock is set.
    #[serde(default)]
    booted_at: Option<i64>,
    cookie: u64,
}

/// The times at which a boot began, which are read at two moments, differ at most by this.
const BOOT_TIME_TOLERANCE: u64 = 2;

impl SocketId {
    pub(crate) fn of(socket: impl AsFd) -> io::Result<Self> {
        Ok(Self {
            boot: std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok(),
            booted_at: Some(boot_time()),
            cookie: sockopt::socket_cookie(socket)?,
        })
    }

    /// Whether both are of the same socket. If that is unknown, they are not.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let is_same_boot = match (&self.boot, &other.boot) {
            (Some(boot), Some(other)) => boot == other,
            // A boot takes longer than the tolerance.
            _ => match (self.booted_at, other.booted_at) {
                (Some(at), Some(other)) => at.abs_diff(other) <= BOOT_TIME_TOLERANCE,
                _ => false,
            },
        };
        is_same_boot && self.cookie == other.cookie
    }
}

fn boot_time() -> i64 {
    let [since_boot, now] = [ClockId::Boottime, ClockId::Realtime].map(clock_gettime);
    now.tv_sec - since_boot.tv_sec
}

/// Whether this machine has the address now. Without IPv6 it has no `::1`.
pub(crate) fn is_local_address(address: IpAddr) -> bool {
    // Nothing is sent.
    UdpSocket::bind((address, 0)).is_ok()
}

/// Whether the system gives this port to clients that connect, each for the time of its connection.
/// A server may find it in use.
#[must_use]
pub fn is_ephemeral_port(port: u16) -> bool {
    let read = |name| std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}"));
    let range = read("ip_local_port_range").unwrap_or_default();
    let range: Vec<u16> = range.split_whitespace().flat_map(str::parse).collect();
    let is_reserved = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        matches!((first.parse(), last.parse()), (Ok(first), Ok(last)) if (first..=last).contains(&port))
    };
    let reserved = read("ip_local_reserved_ports").unwrap_or_default();
    matches!(range[..], [first, last] if (first..=last).contains(&port))
        && !reserved.trim().split(',').any(is_reserved)
}

/// How long the kernel keeps a connection that its program has closed, and the other end has not, in
/// seconds.
pub(crate) fn fin_timeout() -> u64 {
    const DEFAULT: u64 = 60;
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_fin_timeout");
    text.map_or(DEFAULT, |text| text.trim().parse().unwrap_or(DEFAULT))
}

/// Binds an address without listening at it.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = new_socket(address)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Listens at an address.
///
/// # Errors
///
/// The address is in use or not local, or the port is privileged.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    bind(address)?.listen(BACKLOG)
}

/// A port that is bound at all addresses of this machine, without listening. While it is held, no
/// other user can bind the port at any address.
#[derive(Debug)]
pub(crate) struct HeldPort {
    _socket: TcpSocket,
}

/// A listener at a port that is held.
pub(crate) struct LoneListener {
    pub listener: TcpListener,
    pub port: HeldPort,
    /// No other user has a socket at the port. If it is false, that has to be checked.
    pub is_alone: bool,
}

/// Listens at an address and holds its port, so that no other user has a socket of any kind there,
/// also no socket that is only bound or connected. Sockets at other addresses count, too: Linux lets
/// some of them change to this address when they connect, such as those at a multicast address, or
/// those that were bound to all addresses.
///
/// The kernel refuses the port otherwise: sockets with `SO_REUSEPORT` and without `SO_REUSEADDR`
/// share one only with such sockets of their own user (`socket(7)`). Connections of another kind of
/// listener that end occupy the port, too, for up to 60 s. Then it is shared with any socket that
/// does not listen and is there already.
///
/// # Errors
///
/// As for [`listen`].
pub(crate) fn listen_alone(address: SocketAddr) -> io::Result<LoneListener> {
    listen_and_hold(address, false).or_else(|_| listen_and_hold(address, true))
}

fn listen_and_hold(address: SocketAddr, is_shared: bool) -> io::Result<LoneListener> {
    let held = bind_everywhere(address.port(), is_shared)?;
    let address = SocketAddr::new(address.ip(), held.local_addr()?.port());
    let socket = unbound_socket(address)?;
    share(&socket, is_shared)?;
    socket.bind(address)?;
    // The kernel lets this user's programs share the address, and would give each a part of the
    // connections.
    let listeners = || sockets_accepting(address).map_or(0, |sockets| sockets.len());
    let in_use = || io::Error::from_raw_os_error(Errno::ADDRINUSE.raw_os_error());
    if listeners() > 0 {
        return Err(in_use());
    }
    let listener = socket.listen(BACKLOG)?;
    if listeners() > 1 {
        return Err(in_use());
    }
    held.set_reuseport(true)?;
    held.set_reuseaddr(false)?;
    // Accepted connections inherit both. While they end, the next daemon can bind the address, and
    // so can any other program.
    sockopt::set_socket_reuseport(&listener, true)?;
    sockopt::set_socket_reuseaddr(&listener, true)?;
    Ok(LoneListener {
        listener,
        port: HeldPort { _socket: held },
        is_alone: !is_shared,
    })
}

/// Holds the port of a listener that was passed to this process, as [`listen_alone`] does. Sockets
/// that are at the port already are no obstacle if they are this user's and have `SO_REUSEPORT`, or
/// connections that end. `replaced` are listeners at the port that will be closed: they get the
/// option meanwhile.
///
/// # Errors
///
/// The listener is not this user's, such as one that systemd made.
pub(crate) fn hold_port(listener: &TcpListener, replaced: &[&StdListener]) -> io::Result<HeldPort> {
    let _shared: Vec<_> = replaced
        .iter()
        .map(|listener| PortSharing::start(listener))
        .collect::<io::Result<_>>()?;
    let had_reuseport = sockopt::socket_reuseport(listener)?;
    sockopt::set_socket_reuseport(listener, true)?;
    let held = unbound_everywhere().and_then(|(socket, ip)| {
        socket.set_reuseport(true)?;
        socket.set_reuseaddr(true)?;
        socket.bind((ip, listener.local_addr()?.port()).into())?;
        socket.set_reuseaddr(false)?;
        Ok(HeldPort { _socket: socket })
    });
    if held.is_err() {
        sockopt::set_socket_reuseport(listener, had_reuseport)?;
    }
    held
}

/// Whether this process could hold the port, or another one of its user does.
pub(crate) fn can_hold_port(port: u16) -> bool {
    bind_everywhere(port, false).is_ok() || bind_everywhere(port, true).is_ok()
}

/// Binds a port at all addresses, of IPv4 and IPv6.
fn bind_everywhere(port: u16, is_shared: bool) -> io::Result<TcpSocket> {
    let (socket, ip) = unbound_everywhere()?;
    share(&socket, is_shared)?;
    socket.bind((ip, port).into())?;
    Ok(socket)
}

/// A socket, and the address that stands for all of this machine.
fn unbound_everywhere() -> io::Result<(TcpSocket, IpAddr)> {
    match TcpSocket::new_v6() {
        Ok(socket) => {
            sockopt::set_ipv6_v6only(&socket, false)?;
            Ok((socket, Ipv6Addr::UNSPECIFIED.into()))
        }
        // The kernel has no IPv6.
        Err(_) => Ok((TcpSocket::new_v4()?, Ipv4Addr::UNSPECIFIED.into())),
    }
}

/// Shares a port with sockets of this user, or with any that do not listen. Never with both: the
/// kernel would remember that sockets of this user share the port, and check no further one.
fn share(socket: &TcpSocket, with_any: bool) -> io::Result<()> {
    socket.set_reuseport(!with_any)?;
    socket.set_reuseaddr(with_any)
}

/// Listens at an address that overlaps with that of `held`, as `0.0.0.0:8000` does with
/// `127.0.0.1:8000`. Both sockets share the port meanwhile (`SO_REUSEPORT` in `socket(7)`).
pub(crate) fn listen_overlapping(
    address: SocketAddr,
    held: &StdListener,
) -> io::Result<TcpListener> {
    let socket = new_socket(address)?;
    let shared = PortSharing::start(held)?;
    socket.set_reuseport(true)?;
    // `listen` checks the address again.
    let listener = socket.bind(address).and_then(|()| socket.listen(BACKLOG));
    drop(shared);
    let listener = listener?;
    sockopt::set_socket_reuseport(&listener, false)?;
    Ok(listener)
}

/// A listener that shares its port with other sockets of its user, as long as this value lives.
struct PortSharing<'a> {
    listener: &'a StdListener,
    was_shared: bool,
}

impl<'a> PortSharing<'a> {
    fn start(listener: &'a StdListener) -> io::Result<Self> {
        let was_shared = sockopt::socket_reuseport(listener)?;
        sockopt::set_socket_reuseport(listener, true)?;
        Ok(Self {
            listener,
            was_shared,
        })
    }
}

impl Drop for PortSharing<'_> {
    fn drop(&mut self) {
        // The option was changed before, so this does not fail.
        let _ = sockopt::set_socket_reuseport(self.listener, self.was_shared);
    }
}

/// Takes over a listening socket that another process has bound.
pub(crate) fn adopt_listener(listener: StdListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    // Its queue may be shorter than ours.
    rustix::net::listen(&listener, i32::try_from(BACKLOG).unwrap_or(i32::MAX))?;
    TcpListener::from_std(listener)
}

fn new_socket(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = unbound_socket(address)?;
    socket.set_reuseaddr(true)?;
    Ok(socket)
}

fn unbound_socket(address: SocketAddr) -> io::Result<TcpSocket> {
    if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::TcpStream;
    use std::time::Duration;

    use super::*;

    #[test]
    fn socket_id_stays_with_the_socket_and_is_not_used_again() {
        let listener = StdListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let id = SocketId::of(&listener).unwrap();
        let passed = listener.try_clone().unwrap();
        drop(listener);
        assert!(SocketId::of(&passed).unwrap().is_same(&id));
        drop(passed);
        let next = StdListener::bind(address).unwrap();
        assert!(!SocketId::of(&next).unwrap().is_same(&id));
    }

    #[test]
    fn socket_of_unknown_boot_is_not_that_of_another_boot() {
        let listener = StdListener::bind("127.0.0.1:0").unwrap();
        let known = SocketId::of(&listener).unwrap();
        let id = |boot: Option<&str>, booted_at| SocketId {
            boot: boot.map(str::to_owned),
            booted_at,
            ..known.clone()
        };
        let at = known.booted_at.unwrap();
        assert!(boot_time().abs_diff(at) <= BOOT_TIME_TOLERANCE);
        let hidden = id(None, Some(at));
        for (other, is_same) in [
            (id(None, Some(at)), true),
            (id(None, Some(at + 1)), true),
            (id(Some("this"), Some(at)), true),
            (id(None, Some(at - 60)), false),
            (id(None, Some(at + 60)), false),
            // As an earlier version of the program has written it.
            (id(None, None), false),
        ] {
            assert_eq!(hidden.is_same(&other), is_same, "{other:?}");
            assert_eq!(other.is_same(&hidden), is_same, "{other:?}");
        }
        assert!(!id(None, None).is_same(&id(None, None)));
        // The clock was set.
        assert!(id(Some("this"), Some(1)).is_same(&id(Some("this"), Some(at))));
        assert!(!id(Some("this"), Some(at)).is_same(&id(Some("that"), Some(at))));
    }

    #[tokio::test]
    async fn other_sockets_of_a_port_are_noticed() {
        let is_in_use = |result: io::Result<LoneListener>| {
            result.is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
        };
        // Another user's `SO_REUSEADDR` looks the same to the kernel.
        for any in ["127.0.0.1:0", "[::1]:0", "224.0.0.1:0", "127.255.255.255:0"] {
            let bound = bind(any.parse().unwrap()).unwrap();
            let port = bound.local_addr().unwrap().port();
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            for _ in 0..3 {
                assert!(!listen_alone(address).unwrap().is_alone, "{any}");
            }
            drop(bound);
            let alone = listen_alone(address).unwrap();
            assert!(alone.is_alone, "{any}");
            assert!(is_in_use(listen_alone(address)));
            let mut taken: SocketAddr = any.parse().unwrap();
            taken.set_port(port);
            assert!(bind(taken).is_err(), "{any}");
            // As the new process of a restart does.
            let held = hold_port(&alone.listener, &[]).unwrap();
            drop(alone.port);
            assert!(bind(taken).is_err(), "{any}");
            drop((alone.listener, held));
        }
    }

    #[tokio::test]
    async fn socket_that_can_return_to_an_address_is_noticed() {
        let server = StdListener::bind("[::1]:0").unwrap();
        let parked = bind("[::]:0".parse().unwrap()).unwrap();
        let parked = parked.connect(server.local_addr().unwrap()).await.unwrap();
        let local = parked.local_addr().unwrap();
        assert_eq!(local.ip(), server.local_addr().unwrap().ip());
        let address = SocketAddr::from(([127, 0, 0, 1], local.port()));
        assert!(!listen_alone(address).unwrap().is_alone);
        // It ends without TIME_WAIT.
        sockopt::set_socket_linger(&parked, Some(Duration::ZERO)).unwrap();
        drop(parked);
        assert!(listen_alone(address).unwrap().is_alone);
    }

    #[tokio::test]
    async fn lone_listener_starts_while_its_connections_end() {
        let lone = listen_alone("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = lone.listener;
        drop(lone.port);
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        // The side that closes first keeps the address (`TIME_WAIT`).
        drop(accepted);
        drop(listener);
        assert_eq!((&client).read(&mut [0]).unwrap(), 0);
        drop(client);
        assert!(listen_alone(address).unwrap().is_alone);
        // Another kind of listener, such as that of another program.
        drop(listen(address).unwrap());
        let alone = listen_alone(address).unwrap();
        assert!(bind(address).is_err());
        drop(alone);
    }

    #[tokio::test]
    async fn port_stays_held_while_connections_of_another_listener_end() {
        // As another program's, they do not share the port (`SO_REUSEPORT`).
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).unwrap();
        drop(listener.accept().await.unwrap());
        drop((listener, client));
        let lone = listen_alone(address).unwrap();
        assert!(!lone.is_alone);
        let mut multicast = address;
        multicast.set_ip([224, 0, 0, 1].into());
        let held = hold_port(&lone.listener, &[]).unwrap();
        drop(lone.port);
        assert!(bind(multicast).is_err());
        drop(held);
    }

    /// After `PORT` and `ADMIN_PORT` were exchanged.
    #[tokio::test]
    async fn port_of_a_listener_of_another_kind_is_held() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut multicast = listener.local_addr().unwrap();
        multicast.set_ip([224, 0, 0, 1].into());
        drop(bind(multicast).unwrap());
        let held = hold_port(&listener, &[]).unwrap();
        assert!(bind(multicast).is_err());
        drop(held);
    }
}

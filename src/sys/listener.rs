//! Listening TCP sockets.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};

use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpSocket};

/// How many connections the kernel queues. A pause of the process must not make a client retry its
/// SYN.
pub(crate) const BACKLOG: u32 = 4096;

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

/// Listens at an address that overlaps with that of `held`, as `0.0.0.0:8000` does with
/// `127.0.0.1:8000`. Both sockets share the port meanwhile (`SO_REUSEPORT` in `socket(7)`).
pub(crate) fn listen_overlapping(
    address: SocketAddr,
    held: &StdListener,
) -> io::Result<TcpListener> {
    let socket = new_socket(address)?;
    sockopt::set_socket_reuseport(held, true)?;
    socket.set_reuseport(true)?;
    // `listen` checks the address again.
    let listener = socket.bind(address).and_then(|()| socket.listen(BACKLOG));
    sockopt::set_socket_reuseport(held, false)?;
    let listener = listener?;
    sockopt::set_socket_reuseport(&listener, false)?;
    Ok(listener)
}

/// Takes over a listening socket that another process has bound.
pub(crate) fn adopt_listener(listener: StdListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    // Its queue may be shorter than ours.
    rustix::net::listen(&listener, i32::try_from(BACKLOG).unwrap_or(i32::MAX))?;
    TcpListener::from_std(listener)
}

fn new_socket(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    Ok(socket)
}

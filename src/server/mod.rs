//! The two HTTP servers: an accept loop of our own, and poem behind it as router and schema.
//!
//! The caller binds and decides when to stop, so that a test can do both. `poem::Server` cannot do it: it drops
//! requests when it drains, has no limit on the time a header may take, and spins when descriptors run out.

pub mod admin;
mod connection;
mod docs;
mod guard;
mod log_stream;
mod openapi;
pub mod orders;
mod payload;
mod probe;
mod problem;
mod progress;
pub mod public;
mod service;
mod session;
mod shutdown;
mod site;
mod traffic;
mod usage;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::task::TaskTracker;

pub use openapi::{admin_document, public_document};
pub use probe::Probe;
pub use service::Service;
pub use shutdown::Shutdown;
pub use traffic::Traffic;

/// Connections that may wait to be accepted: a pause of the process must not cost anybody a retry of a SYN.
const BACKLOG: u32 = 4096;
/// How long the accept loop rests when the system has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Binds a listener for [`run`].
///
/// # Errors
///
/// The address is taken, not this machine's, or a privileged port.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Binds an address that `held` is in the way of, as `127.0.0.1:8000` is of `0.0.0.0:8000`: both sockets of this user's
/// share the port for as long as it takes (`SO_REUSEPORT` of `socket(7)`).
///
/// # Errors
///
/// Something else is in the way.
pub fn bind_beside(address: SocketAddr, held: &std::net::TcpListener) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    sockopt::set_socket_reuseport(held, true)?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    // Listening checks the address once more.
    let listener = socket.bind(address).and_then(|()| socket.listen(BACKLOG));
    sockopt::set_socket_reuseport(held, false)?;
    let listener = listener?;
    sockopt::set_socket_reuseport(&listener, false)?;
    Ok(listener)
}

/// Takes a listening socket that somebody else has bound.
///
/// # Errors
///
/// It is none.
pub fn adopt(listener: std::net::TcpListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    // Whoever bound it may have chosen a shorter queue.
    rustix::net::listen(&listener, i32::try_from(BACKLOG).unwrap_or(i32::MAX))?;
    TcpListener::from_std(listener)
}

/// Serves until the shutdown begins, then until the last connection is finished or the shutdown is forced.
pub async fn run(listener: TcpListener, service: Arc<Service>, shutdown: Shutdown) {
    let listening = shutdown.listening();
    let connections = TaskTracker::new();
    let serve = |(stream, peer): (TcpStream, SocketAddr)| {
        connections.spawn(connection::serve(
            stream,
            peer,
            Arc::clone(&service),
            shutdown.clone(),
        ));
    };
    let mut is_failing = false;
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.begun() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(accepted) => {
                is_failing = false;
                serve(accepted);
            }
            Err(error) if is_the_clients(&error) => {}
            Err(error) => {
                if !is_failing {
                    tracing::error!(%error, server = service.name(), "no connection can be accepted");
                }
                is_failing = true;
                let _ = tokio::time::timeout(ACCEPT_PAUSE, shutdown.begun()).await;
            }
        }
    }
    serve_queued(listener, serve);
    drop(listening);
    connections.close();
    connections.wait().await;
}

/// Who connected before the listener closes is served, not reset. The queue is asked itself: tokio knows of a
/// connection only once its driver has run.
fn serve_queued(listener: TcpListener, serve: impl Fn((TcpStream, SocketAddr))) {
    let Ok(listener) = listener.into_std() else {
        return;
    };
    // A successor may accept from the same queue, so it need not end.
    for _ in 0..BACKLOG {
        let Ok((stream, peer)) = listener.accept() else {
            break;
        };
        let stream = stream
            .set_nonblocking(true)
            .and_then(|()| TcpStream::from_std(stream));
        if let Ok(stream) = stream {
            serve((stream, peer));
        }
    }
}

/// Errors of one connection that is gone before it was accepted (`accept(2)`), not of the listener.
fn is_the_clients(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::HostUnreachable
    )
}

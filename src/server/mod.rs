//! The two HTTP servers: an accept loop of our own, and poem behind it as router and schema.
//!
//! The caller binds and decides when to stop, so that a test can do both. `poem::Server` cannot do it: it drops
//! requests when it drains, has no limit on the time a header may take, and spins when descriptors run out.

mod api;
mod auth;
mod blocking;
mod clients;
mod connection;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz_targets;
mod log_page;
mod log_stream;
pub mod metrics;
mod openapi;
mod payload;
mod probe;
mod problem;
mod progress;
mod readers;
mod request_body;
mod security_headers;
mod service;
mod shutdown;
mod site;
mod slots;
mod static_file;
mod ui;
mod unread;
mod usage;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use poem::http::StatusCode;
use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

pub use api::admin::admin_document;
pub use api::public::public_document;
pub use api::{admin, control_request, public};
pub use clients::{ConnectionPool, LimitKind};
pub use probe::SelfCheck;
pub use readers::LogReaderLimit;
pub use service::Service;
pub use shutdown::Shutdown;
use slots::{ConnectionSlot, PoolFull};

/// Connections that may wait to be accepted: a pause of the process must not cost anybody a retry of a SYN.
const BACKLOG: u32 = 4096;
/// How long the accept loop rests when the system has no descriptor left.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);
/// How often at most it is logged that connections cannot be accepted.
const ACCEPT_LOG_INTERVAL: Duration = Duration::from_mins(1);
/// Connections to one port that are refused, and whose clients may read why before they are closed; further ones are just closed.
/// Each is a descriptor beyond those that clients are given.
pub const MAX_REFUSALS: usize = 4;

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
pub fn bind_overlapping(
    address: SocketAddr,
    held: &std::net::TcpListener,
) -> io::Result<TcpListener> {
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
pub fn listener_from_std(listener: std::net::TcpListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    // Whoever bound it may have chosen a shorter queue.
    rustix::net::listen(&listener, i32::try_from(BACKLOG).unwrap_or(i32::MAX))?;
    TcpListener::from_std(listener)
}

/// Serves until the shutdown begins, then until the last connection is finished or the shutdown is forced.
pub async fn run(listener: TcpListener, service: Arc<Service>, shutdown: Shutdown) {
    let listening = shutdown.listener_token();
    let connections = TaskTracker::new();
    let refusals = Arc::new(Semaphore::new(MAX_REFUSALS));
    let serve = |(stream, peer), progress, slot: Option<ConnectionSlot>| {
        let served = connection::serve(
            stream,
            peer,
            progress,
            Arc::clone(&service),
            shutdown.clone(),
        );
        let refusals = Arc::clone(&refusals);
        connections.spawn(async move {
            let left = served.await;
            // Whoever lingers takes nobody's place.
            drop(slot);
            if let Some(stream) = left
                && let Ok(_permit) = refusals.try_acquire()
            {
                unread::lingering_close(&stream).await;
            }
        });
    };
    let mut failures = AcceptErrorLog::default();
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.started() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(accepted) => {
                let clients = service.connections();
                let progress = Arc::default();
                let (slot, evicted) = clients.slots.acquire(&progress).await;
                clients.record_limit_hits(LimitKind::Evicted, evicted);
                match slot {
                    Ok(slot) => serve(accepted, progress, Some(slot)),
                    Err(PoolFull) => refuse(accepted, &service, &refusals, &connections),
                }
            }
            Err(error) if is_connection_error(&error) => {}
            Err(error) => {
                let clients = service.connections();
                clients.record_accept_error();
                failures.record(&error, service.name());
                let leave = clients.slots.evict();
                clients.record_limit_hits(LimitKind::Evicted, leave.now);
                let _ = tokio::time::timeout(ACCEPT_RETRY_DELAY, shutdown.started()).await;
            }
        }
    }
    serve_backlog(listener, |accepted| serve(accepted, Arc::default(), None));
    drop(listening);
    connections.close();
    connections.wait().await;
}

/// Tells a client that there is no room, if there is room to tell.
fn refuse(
    (stream, peer): (TcpStream, SocketAddr),
    service: &Service,
    refusals: &Arc<Semaphore>,
    connections: &TaskTracker,
) {
    let answer = service.raw_error(StatusCode::SERVICE_UNAVAILABLE, peer);
    if let Ok(permit) = Arc::clone(refusals).try_acquire_owned() {
        connections.spawn(async move {
            // A new connection takes this much at once.
            let _ = stream.try_write(&answer);
            unread::lingering_close(&stream).await;
            drop(permit);
        });
    }
}

/// Connections that the system did not give us, and what was said of it.
#[derive(Default)]
struct AcceptErrorLog {
    logged_at: Option<Instant>,
    unlogged: u64,
}

impl AcceptErrorLog {
    fn record(&mut self, error: &io::Error, server: &str) {
        self.unlogged += 1;
        if self
            .logged_at
            .is_some_and(|at| at.elapsed() < ACCEPT_LOG_INTERVAL)
        {
            return;
        }
        let times = std::mem::take(&mut self.unlogged);
        self.logged_at = Some(Instant::now());
        tracing::error!(%error, server, times, "no connection can be accepted: trying again");
    }
}

/// Who connected before the listener closes is served, not reset. The queue is asked itself: tokio knows of a
/// connection only once its driver has run.
fn serve_backlog(listener: TcpListener, serve: impl Fn((TcpStream, SocketAddr))) {
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
fn is_connection_error(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::HostUnreachable
    )
}

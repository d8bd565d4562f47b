//! The accept loop.
//!
//! The caller binds and decides when to stop, so a test can do both. `poem::Server` is not used: it
//! drops requests when it drains, has no time limit for request headers, and spins when file
//! descriptors run out.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use poem::http::StatusCode;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::connection::{self, lingering_close};
use super::http::Service;
use super::pool::{ConnectionSlot, ConnectionState};
use super::shutdown::Shutdown;
use crate::sys::BACKLOG;

/// How long the accept loop waits after an error such as the lack of file descriptors.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);
/// The minimum time between two log events about accept errors.
const ACCEPT_LOG_INTERVAL: Duration = Duration::from_mins(1);
/// How many refused connections of one port get a response at the same time. Further ones are
/// closed at once. Each needs a file descriptor in addition to those of the connection pool.
pub const MAX_REFUSALS: usize = 4;

/// Accepts connections until the shutdown starts. Returns once the last one has ended, or was cut
/// off by the shutdown.
pub async fn run(listener: TcpListener, service: Arc<Service>, shutdown: Shutdown) {
    let token = shutdown.listener_token();
    let server = Server {
        service: &service,
        shutdown: &shutdown,
        connections: TaskTracker::new(),
        refusals: Arc::new(Semaphore::new(MAX_REFUSALS)),
    };
    let pool = service.pool();
    let mut errors = AcceptErrorLog::default();
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.started() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let state = Arc::default();
                match pool.acquire(&state).await {
                    Some(slot) => server.serve(stream, peer, state, Some(slot)),
                    None => server.refuse(stream, peer),
                }
            }
            Err(error) if is_connection_error(&error) => {}
            Err(error) => {
                pool.stats.record_accept_error();
                errors.record(&error, service.name());
                pool.evict();
                let _ = tokio::time::timeout(ACCEPT_RETRY_DELAY, shutdown.started()).await;
            }
        }
    }
    server.serve_backlog(listener);
    drop(token);
    server.connections.close();
    server.connections.wait().await;
}

struct Server<'a> {
    service: &'a Arc<Service>,
    shutdown: &'a Shutdown,
    connections: TaskTracker,
    /// Permits for refused clients that get a response.
    refusals: Arc<Semaphore>,
}

impl Server<'_> {
    fn serve(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        state: Arc<ConnectionState>,
        slot: Option<ConnectionSlot>,
    ) {
        let service = Arc::clone(self.service);
        let served = connection::serve(stream, peer, state, service, self.shutdown.clone());
        let refusals = Arc::clone(&self.refusals);
        self.connections.spawn(async move {
            let lingering = served.await;
            // A lingering connection takes no slot.
            drop(slot);
            if let Some(stream) = lingering
                && let Ok(_permit) = refusals.try_acquire()
            {
                lingering_close(&stream).await;
            }
        });
    }

    /// Responds with 503, unless too many refused clients are being answered already.
    fn refuse(&self, stream: TcpStream, peer: SocketAddr) {
        let response = self
            .service
            .raw_error(StatusCode::SERVICE_UNAVAILABLE, peer);
        if let Ok(permit) = Arc::clone(&self.refusals).try_acquire_owned() {
            self.connections.spawn(async move {
                // The buffer of a new socket has room for it.
                let _ = stream.try_write(&response);
                lingering_close(&stream).await;
                drop(permit);
            });
        }
    }

    /// Serves the connections that the kernel has queued: closing the listener would reset them. It
    /// uses `accept(2)` directly, because tokio notices a connection only after its driver has run.
    fn serve_backlog(&self, listener: TcpListener) {
        let Ok(listener) = listener.into_std() else {
            return;
        };
        // The limit is needed: clients of a new process may fill the same queue.
        for _ in 0..BACKLOG {
            let Ok((stream, peer)) = listener.accept() else {
                break;
            };
            let stream = stream
                .set_nonblocking(true)
                .and_then(|()| TcpStream::from_std(stream));
            if let Ok(stream) = stream {
                self.serve(stream, peer, Arc::default(), None);
            }
        }
    }
}

/// Logs accept errors, at most one event for each [`ACCEPT_LOG_INTERVAL`].
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
        tracing::error!(%error, server, times, "cannot accept connections; trying again");
    }
}

/// Whether only one connection failed before it was accepted (`accept(2)`), and the listener works.
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

//! One connection: HTTP/1.1 by hyper, closed in a way that loses no request.

mod framing;
mod io;
mod socket;
mod timeouts;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use poem::http::StatusCode;
use tokio::net::TcpStream;

use super::http::Service;
use super::limits::LimitKind;
use super::pool::{ClientSocket, ConnectionState, DetachedBody, WaitingFor};
use super::shutdown::Shutdown;
use io::ConnectionIo;
pub use socket::lingering_close;
use socket::{has_pending_input, keep_alive};
use timeouts::{STUCK_TIMEOUT, client_left, client_timeout, evicted, stuck};

/// How long a new connection may take to send its first request once the server stops.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_millis(20);

/// Serves a connection until it ends. Returns the stream if the client may still send: it needs a
/// [`lingering_close`].
pub async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    state: Arc<ConnectionState>,
    service: Arc<Service>,
    shutdown: Shutdown,
) -> Option<Arc<TcpStream>> {
    // Otherwise a response may wait for the client's acknowledgement. A failure costs only that.
    let _ = stream.set_nodelay(true);
    let local = stream.local_addr().ok()?;
    let stream = Arc::new(stream);
    let io = ConnectionIo::new(
        Arc::clone(&stream),
        Arc::clone(&state),
        Arc::clone(&service),
        peer,
    );
    let client = ClientSocket::new(&stream);
    let limits = &service.pool().limits;
    let handler = service_fn(|request| {
        let response = service.call(request, peer, local, &state, &client);
        async { Ok::<_, Infallible>(response.await) }
    });
    let mut connection = http1::Builder::new()
        // A client may close its side after it has sent a request. A write shows that a follower
        // has disconnected.
        .half_close(true)
        .max_buf_size(limits.max_header_size)
        .serve_connection(TokioIo::new(io), handler);

    let ended = tokio::select! {
        biased;
        result = &mut connection => Some(Ended::Connection(result)),
        body = state.detached_body() => Some(Ended::Detached(body)),
        () = shutdown.idle_closing() => None,
        () = client_left(&state, &stream), if service.has_application() => return None,
        (limit, waiting) = client_timeout(&state, limits, &stream) => {
            let is_answered = close_timed_out(limit, waiting, &state, &service, peer, &stream);
            return is_answered.then_some(stream);
        }
        () = evicted(&state, &stream) => return None,
    };
    let ended = if let Some(ended) = ended {
        ended
    } else {
        if state.is_untouched() {
            let _ = tokio::time::timeout(FIRST_REQUEST_TIMEOUT, stream.readable()).await;
        }
        // A request that waits is read first. Its response says `Connection: close`, as all do by
        // now.
        if !(state.is_idle() && has_pending_input(&stream)) {
            Pin::new(&mut connection).graceful_shutdown();
        }
        tokio::select! {
            biased;
            result = &mut connection => Ended::Connection(result),
            body = state.detached_body() => Ended::Detached(body),
            () = client_left(&state, &stream), if service.has_application() => return None,
            () = stuck(&state) => return None,
            () = shutdown.forced() => return None,
        }
    };
    match ended {
        Ended::Detached(body) => {
            let io = connection.into_parts().io.into_inner();
            write_detached(body, io, &state, &stream, &shutdown).await;
            None
        }
        Ended::Connection(result) => {
            if let Some(tunnel) = state.take_tunnel() {
                let parts = connection.into_parts();
                let (io, sent) = (parts.io.into_inner(), parts.read_buf);
                keep_alive(&stream);
                let tunnel = tunnel.run(io, sent, limits.idle_timeout);
                run_tunnel(tunnel, &state, &stream, &shutdown).await;
                return None;
            }
            // Other errors are the client's: everything relevant was logged with the request.
            let is_truncated = result.is_err_and(|error| error.is_user());
            if is_truncated && service.has_application() {
                // A client of HTTP/1.0 takes the end of the connection for the end of the response.
                let _ = stream.set_zero_linger();
                return None;
            }
            state.lingers().then_some(stream)
        }
    }
}

/// How hyper's part of a connection ends.
enum Ended {
    Connection(hyper::Result<()>),
    Detached(DetachedBody),
}

/// Lets a WebSocket run until both sides have closed it. A client that does not read may be evicted.
async fn run_tunnel(
    tunnel: impl Future<Output = std::io::Result<()>>,
    state: &ConnectionState,
    stream: &TcpStream,
    shutdown: &Shutdown,
) {
    tokio::select! {
        result = tunnel => {
            if let Err(error) = result {
                tracing::debug!(%error, "a WebSocket broke off");
            }
        }
        () = evicted(state, stream) => {}
        () = shutdown.forced() => {}
    }
}

/// Writes a detached body. A client that does not read may be evicted, and is not waited for once
/// the server stops.
async fn write_detached(
    body: DetachedBody,
    io: ConnectionIo,
    state: &ConnectionState,
    stream: &TcpStream,
    shutdown: &Shutdown,
) {
    let deadline = async {
        shutdown.started().await;
        tokio::time::sleep(STUCK_TIMEOUT).await;
    };
    tokio::select! {
        written = body(Box::new(io)) => {
            if let Err(error) = written {
                tracing::debug!(%error, "a log stream broke off");
            }
        }
        () = evicted(state, stream) => {}
        () = deadline => {}
        () = shutdown.forced() => {}
    }
}

/// Closes a connection whose client took too long. Returns whether the client gets a response.
fn close_timed_out(
    limit: LimitKind,
    waiting: WaitingFor,
    state: &ConnectionState,
    service: &Service,
    peer: SocketAddr,
    stream: &TcpStream,
) -> bool {
    let is_answered = waiting == WaitingFor::RequestHeaders && state.has_partial_headers();
    if is_answered {
        let response = service.raw_error(StatusCode::REQUEST_TIMEOUT, peer);
        // The response is lost if the client does not read.
        let _ = stream.try_write(&response);
    } else {
        service.pool().stats.record_limit_hit(limit);
    }
    is_answered
}

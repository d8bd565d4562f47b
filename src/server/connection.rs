//! One connection: HTTP/1.1 by hyper, ended in a way that loses no request.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use poem::http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::clients::LimitKind;
use super::log_stream::LogStream;
use super::progress::{ConnectionState, WaitingFor};
use super::service::Service;
use super::shutdown::Shutdown;
use super::unread;
use crate::config::Limits;

/// Once stopping: how long a client that has just connected, and surely wants something, may take to ask.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_millis(20);
/// Once stopping: how long a client that may never end what it began (headers, the reading of a stream) is waited for.
const STUCK_TIMEOUT: Duration = Duration::from_millis(500);

/// How often what has come is given the chance to be read before a connection has to go.
const MAX_INPUT_CHECKS: u32 = 16;
/// How soon a connection that has to go, and was asked something just then, is looked at again.
const EVICTION_RECHECK_INTERVAL: Duration = Duration::from_millis(500);

/// Serves a connection to its end. Returns the stream if its client may still send, and should be able to read its answer first.
pub(super) async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    progress: Arc<ConnectionState>,
    service: Arc<Service>,
    shutdown: Shutdown,
) -> Option<Arc<TcpStream>> {
    // Without it an answer may wait for the client's acknowledgement; a failure costs only that.
    let _ = stream.set_nodelay(true);
    let local = stream.local_addr().ok()?;
    let socket = ConnectionIo {
        stream: Arc::new(stream),
        progress: Arc::clone(&progress),
        service: Arc::clone(&service),
        peer,
        replacement: Bytes::new(),
    };
    let stream = Arc::clone(&socket.stream);
    let limits = &service.connections().limits;
    let handler = service_fn(|request| {
        let answer = service.call(request, peer, local, &progress);
        async { Ok::<_, Infallible>(answer.await) }
    });
    let mut connection = http1::Builder::new()
        // A client may close its side once it has asked. That a follower is gone is seen when it is written to.
        .half_close(true)
        .max_buf_size(limits.max_header_size)
        .serve_connection(TokioIo::new(socket), handler);

    tokio::select! {
        biased;
        // How a connection ends is its client's affair: what matters was logged with the request.
        _ = &mut connection => return progress.lingers().then_some(stream),
        log = progress.detached_body() => {
            // The answer goes on without hyper.
            let _in_flight = progress.start_request();
            let socket = connection.into_parts().io.into_inner();
            stream_log(log, socket, &progress, &shutdown).await;
            return None;
        }
        () = shutdown.idle_closing() => {}
        (limit, wait) = client_timeout(&progress, limits, &stream) => {
            let is_told = close_timed_out(limit, wait, &progress, &service, peer, &stream);
            return is_told.then_some(stream);
        }
        () = evicted(&progress, &stream) => return None,
    }
    if progress.is_untouched() {
        let _ = tokio::time::timeout(FIRST_REQUEST_TIMEOUT, stream.readable()).await;
    }
    if !(progress.is_idle() && unread::has_pending_input(&stream)) {
        Pin::new(&mut connection).graceful_shutdown();
    }
    // Otherwise the request that waits is read and its answer, like all by now, says `Connection: close`.
    tokio::select! {
        biased;
        _ = &mut connection => return progress.lingers().then_some(stream),
        log = progress.detached_body() => {
            let _in_flight = progress.start_request();
            let socket = connection.into_parts().io.into_inner();
            stream_log(log, socket, &progress, &shutdown).await;
        }
        () = stuck(&progress) => {}
        () = shutdown.forced() => {}
    }
    None
}

/// The rest of a connection on which the log is followed. A client that does not read makes room for others, and once stopping it
/// is not waited for.
async fn stream_log(
    log: LogStream,
    socket: ConnectionIo,
    progress: &ConnectionState,
    shutdown: &Shutdown,
) {
    let stream = Arc::clone(&socket.stream);
    let deadline = async {
        shutdown.started().await;
        tokio::time::sleep(STUCK_TIMEOUT).await;
    };
    tokio::select! {
        ended = log.run(socket) => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a log stream broke off");
            }
        }
        () = evicted(progress, &stream) => {}
        () = deadline => {}
        () = shutdown.forced() => {}
    }
}

/// Returns once the client has taken too long with what is up to it.
async fn client_timeout(
    progress: &ConnectionState,
    limits: &Limits,
    stream: &TcpStream,
) -> (LimitKind, WaitingFor) {
    // hyper's own timeout sets a timer for each request. This one looks again at least so often that no wait that begins
    // meanwhile is over before.
    let look = limits.header_timeout.min(limits.idle_timeout);
    let mut is_spared = false;
    loop {
        let now = Instant::now();
        let awaited = progress.waiting_since().and_then(|(wait, since)| {
            let (limit, timeout) = match wait {
                WaitingFor::RequestHeaders => (LimitKind::HeaderTimeout, limits.header_timeout),
                WaitingFor::NextRequest | WaitingFor::ResponseRead => {
                    (LimitKind::IdleTimeout, limits.idle_timeout)
                }
                // It has a deadline of its own.
                WaitingFor::RequestBody => return None,
            };
            Some((limit, wait, since + timeout))
        });
        let mut next = now + look;
        if let Some((limit, wait, deadline)) = awaited {
            if deadline <= now {
                // A request that has come in time is served, though nobody has read it yet.
                if is_spared
                    || wait != WaitingFor::NextRequest
                    || !unread::has_pending_input(stream)
                {
                    return (limit, wait);
                }
                is_spared = true;
            }
            if deadline > now {
                next = next.min(deadline);
            }
        }
        tokio::time::sleep_until(next).await;
    }
}

/// Ends a connection whose client took too long. Whether it is told.
fn close_timed_out(
    limit: LimitKind,
    wait: WaitingFor,
    progress: &ConnectionState,
    service: &Service,
    peer: SocketAddr,
    stream: &TcpStream,
) -> bool {
    let is_told = wait == WaitingFor::RequestHeaders && progress.has_partial_headers();
    if is_told {
        let answer = service.raw_error(StatusCode::REQUEST_TIMEOUT, peer);
        // Whoever does not read it does not learn why.
        let _ = stream.try_write(&answer);
    } else {
        service.connections().record_limit_hit(limit);
    }
    is_told
}

/// Returns once the connection has to make room for another, and nothing is lost by it.
async fn evicted(progress: &ConnectionState, stream: &TcpStream) {
    progress.evicted().await;
    let mut looks = 0..MAX_INPUT_CHECKS;
    loop {
        match progress.evictable_since() {
            // It has asked just now. An answer that has not begun says `Connection: close`; otherwise it goes afterwards.
            None => tokio::time::sleep(EVICTION_RECHECK_INTERVAL).await,
            // What has come is read first: it may be a request.
            Some((WaitingFor::RequestHeaders | WaitingFor::NextRequest, _))
                if !progress.has_partial_headers()
                    && unread::has_pending_input(stream)
                    && looks.next().is_some() =>
            {
                tokio::task::yield_now().await;
            }
            Some(_) => return,
        }
    }
}

/// Returns once the connection's end has been up to a client that may never come to it, for a while.
async fn stuck(progress: &ConnectionState) {
    loop {
        tokio::time::sleep(STUCK_TIMEOUT).await;
        if progress.has_partial_headers() {
            return;
        }
    }
}

/// The stream as hyper reads and writes it, while others can still look at it.
struct ConnectionIo {
    stream: Arc<TcpStream>,
    progress: Arc<ConnectionState>,
    service: Arc<Service>,
    peer: SocketAddr,
    /// What is written in place of hyper's own answer to what is no request.
    replacement: Bytes,
}

impl AsyncRead for ConnectionIo {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.stream.poll_read_ready(context))?;
            match self.read_available(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(read) => {
                    if read > 0 {
                        self.progress.on_read();
                    }
                    return Poll::Ready(Ok(()));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl ConnectionIo {
    /// Less than there was room for is all there was: it is not tried again before the system says that there is more, as
    /// tokio's own `poll_read` does, which wants the stream for itself. That saves a call for each request, and a client that
    /// is quick to ask again waits for its turn.
    fn read_available(&self, buffer: &mut ReadBuf<'_>) -> io::Result<usize> {
        let room = buffer.remaining();
        let mut read = 0;
        let tried = self.stream.try_io(Interest::READABLE, || {
            read = self.stream.try_read_buf(buffer)?;
            // Forgets that it is readable, unless something has come since it was known.
            let is_all = 0 < read && read < room;
            if is_all {
                Err(io::ErrorKind::WouldBlock.into())
            } else {
                Ok(())
            }
        });
        if read > 0 {
            Ok(read)
        } else {
            tried.map(|()| 0)
        }
    }

    fn poll_try_write(
        &self,
        context: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let readiness = self.stream.poll_write_ready(context);
            if readiness.is_pending() {
                self.progress.on_write_blocked();
            }
            ready!(readiness)?;
            match write(&self.stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => {
                    self.progress.on_written();
                    return Poll::Ready(other);
                }
            }
        }
    }

    /// Whether hyper refuses what is no request. Then there is another answer, and hyper's is not written.
    fn replaces_hyper_error(&mut self, answer: &[u8]) -> bool {
        let status = if self.progress.is_between_requests() {
            unread::hyper_error_status(answer)
        } else {
            None
        };
        let Some(status) = status else {
            return false;
        };
        self.replacement = self.service.raw_error(status, self.peer);
        self.progress.set_lingers();
        true
    }

    fn poll_replacement(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.replacement.is_empty() {
            let answer = self.replacement.clone();
            let written = ready!(self.poll_try_write(context, |stream| stream.try_write(&answer)))?;
            self.replacement.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ConnectionIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.replaces_hyper_error(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        self.poll_try_write(context, |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if slices
            .first()
            .is_some_and(|head| self.replaces_hyper_error(head))
        {
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        self.poll_try_write(context, |stream| stream.try_write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_replacement(context))?;
        self.progress.on_flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_replacement(context))?;
        match rustix::net::shutdown(&self.stream, rustix::net::Shutdown::Write) {
            // The client was faster.
            Ok(()) | Err(rustix::io::Errno::NOTCONN) => Poll::Ready(Ok(())),
            Err(errno) => Poll::Ready(Err(errno.into())),
        }
    }
}

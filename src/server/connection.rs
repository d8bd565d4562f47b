//! One connection: HTTP/1.1 by hyper, ended in a way that loses no request.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::service::Service;
use super::shutdown::Shutdown;

/// A connection on which no request was answered or is being answered for this long is closed: one that is kept but
/// idle, and one whose headers do not come. Looked at once in that time, so it may last twice as long. hyper's own
/// timeout sets a timer for each request, which costs a tenth of the throughput of a small answer.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a stream gets, once stopping, to hand its last event to a client that may have stopped reading.
const STREAM_GRACE: Duration = Duration::from_millis(500);

/// What the requests of a connection leave for its end.
#[derive(Debug, Default)]
pub(super) struct Progress {
    in_flight: AtomicU32,
    answered: AtomicU32,
    /// The answer under way is an endless stream.
    is_streaming: AtomicBool,
}

impl Progress {
    pub fn begin(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    pub fn answered(&self, with_stream: bool) {
        self.is_streaming.store(with_stream, Ordering::Relaxed);
        self.answered.fetch_add(1, Ordering::Relaxed);
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Returns once nothing was asked for a while.
    async fn idled_out(&self) {
        let mut before = u32::MAX;
        loop {
            tokio::time::sleep(IDLE_TIMEOUT).await;
            let is_busy = self.in_flight.load(Ordering::Relaxed) > 0
                || self.is_streaming.load(Ordering::Relaxed);
            let answered = self.answered.load(Ordering::Relaxed);
            if !is_busy && answered == before {
                return;
            }
            before = answered;
        }
    }
}

pub(super) async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    service: Arc<Service>,
    shutdown: Shutdown,
) {
    let _counted = service.traffic().connection();
    // Without it an answer may wait for the client's acknowledgement; a failure costs only that.
    let _ = stream.set_nodelay(true);
    let Ok(local) = stream.local_addr() else {
        return;
    };
    let stream = Arc::new(stream);
    let progress = Progress::default();
    let handler = service_fn(|request| {
        let answer = service.answer(request, peer, local, &progress);
        async { Ok::<_, Infallible>(answer.await) }
    });
    let mut connection = pin!(
        http1::Builder::new().serve_connection(TokioIo::new(Shared(Arc::clone(&stream))), handler)
    );

    tokio::select! {
        biased;
        // How a connection ends is its client's affair: what matters was logged with the request.
        _ = connection.as_mut() => return,
        () = shutdown.begun() => {}
        () = progress.idled_out() => {}
    }
    let is_idle = progress.in_flight.load(Ordering::Relaxed) == 0;
    if !(is_idle && has_unread_request(&stream)) {
        connection.as_mut().graceful_shutdown();
    }
    // Otherwise the request that waits is read and its answer, like all by now, says `Connection: close`.
    let patience = async {
        if progress.is_streaming.load(Ordering::Relaxed) {
            tokio::time::sleep(STREAM_GRACE).await;
        } else {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        biased;
        _ = connection.as_mut() => {}
        () = patience => {}
        () = shutdown.forced() => {}
    }
}

/// Whether the client has sent something that nobody has read yet. Closing now would lose it.
fn has_unread_request(stream: &TcpStream) -> bool {
    let mut byte = [0_u8; 1];
    recv(stream, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT).is_ok_and(|(read, _)| read > 0)
}

/// The stream as hyper reads and writes it, while [`has_unread_request`] can still look at it.
struct Shared(Arc<TcpStream>);

impl AsyncRead for Shared {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(context))?;
            match self.0.try_read_buf(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return Poll::Ready(other.map(drop)),
            }
        }
    }
}

impl Shared {
    fn poll_try_write(
        &self,
        context: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(context))?;
            match write(&self.0) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return Poll::Ready(other),
            }
        }
    }
}

impl AsyncWrite for Shared {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_try_write(context, |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_try_write(context, |stream| stream.try_write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match rustix::net::shutdown(&self.0, rustix::net::Shutdown::Write) {
            // The client was faster.
            Ok(()) | Err(rustix::io::Errno::NOTCONN) => Poll::Ready(Ok(())),
            Err(errno) => Poll::Ready(Err(errno.into())),
        }
    }
}

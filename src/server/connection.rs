//! One connection: HTTP/1.1 by hyper, ended in a way that loses no request.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::log_stream::LogStream;
use super::progress::Progress;
use super::service::Service;
use super::shutdown::Shutdown;

/// A connection on which the client got nothing for this long, and everything waits for the client, is closed: one that is
/// kept but idle, one whose headers do not come, one that does not read its answer. Looked at once in that time, so it may
/// last twice as long. hyper's own timeout sets a timer for each request; this one is set once a connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// Once stopping: how long a client that has just connected, and surely wants something, may take to ask.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_millis(20);
/// Once stopping: how long a client that may never end what it began (headers, the reading of a stream) is waited for.
const STUCK_TIMEOUT: Duration = Duration::from_millis(500);

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
    let socket = Socket {
        stream: Arc::new(stream),
        progress: Arc::default(),
    };
    let progress = Arc::clone(&socket.progress);
    let stream = Arc::clone(&socket.stream);
    let handler = service_fn(|request| {
        let answer = service.answer(request, peer, local, &progress);
        async { Ok::<_, Infallible>(answer.await) }
    });
    let mut connection = http1::Builder::new()
        // A client may close its side once it has asked. That a follower is gone is seen when it is written to.
        .half_close(true)
        .serve_connection(TokioIo::new(socket), handler);

    tokio::select! {
        biased;
        // How a connection ends is its client's affair: what matters was logged with the request.
        _ = &mut connection => return,
        log = progress.handed_over() => {
            let socket = connection.into_parts().io.into_inner();
            return stream_log(log, socket, &shutdown).await;
        }
        () = shutdown.idle_closed() => {}
        () = idled_out(&progress, &stream) => return,
    }
    if progress.is_untouched() {
        let _ = tokio::time::timeout(FIRST_REQUEST_TIMEOUT, stream.readable()).await;
    }
    if !(progress.is_between_requests() && has_unread_request(&stream)) {
        Pin::new(&mut connection).graceful_shutdown();
    }
    // Otherwise the request that waits is read and its answer, like all by now, says `Connection: close`.
    tokio::select! {
        biased;
        _ = &mut connection => {}
        log = progress.handed_over() => {
            let socket = connection.into_parts().io.into_inner();
            stream_log(log, socket, &shutdown).await;
        }
        () = stuck(&progress) => {}
        () = shutdown.forced() => {}
    }
}

/// The rest of a connection on which the log is followed. Once stopping, a client that does not read is not waited for.
async fn stream_log(log: LogStream, socket: Socket, shutdown: &Shutdown) {
    let deadline = async {
        shutdown.begun().await;
        tokio::time::sleep(STUCK_TIMEOUT).await;
    };
    tokio::select! {
        ended = log.run(socket) => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a log stream broke off");
            }
        }
        () = deadline => {}
        () = shutdown.forced() => {}
    }
}

/// Returns once the client got nothing for a while, and everything waits for the client.
async fn idled_out(progress: &Progress, stream: &TcpStream) {
    let mut before = None;
    loop {
        tokio::time::sleep(IDLE_TIMEOUT).await;
        let now = Some(progress.mark());
        if now == before && progress.awaits_client() && !has_unread_request(stream) {
            return;
        }
        before = now;
    }
}

/// Returns once the connection's end has been up to a client that may never come to it, for a while.
async fn stuck(progress: &Progress) {
    loop {
        tokio::time::sleep(STUCK_TIMEOUT).await;
        if progress.has_partial_head() {
            return;
        }
    }
}

/// Whether the client has sent something that nobody has read yet. Closing now would lose it.
fn has_unread_request(stream: &TcpStream) -> bool {
    let mut byte = [0_u8; 1];
    recv(stream, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT).is_ok_and(|(read, _)| read > 0)
}

/// The stream as hyper reads and writes it, while [`has_unread_request`] can still look at it.
struct Socket {
    stream: Arc<TcpStream>,
    progress: Arc<Progress>,
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.stream.poll_read_ready(context))?;
            match self.stream.try_read_buf(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(read) => {
                    if read > 0 {
                        self.progress.has_read();
                    }
                    return Poll::Ready(Ok(()));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl Socket {
    fn poll_try_write(
        &self,
        context: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(context))?;
            match write(&self.stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => {
                    self.progress.has_written();
                    return Poll::Ready(other);
                }
            }
        }
    }
}

impl AsyncWrite for Socket {
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
        self.progress.has_flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match rustix::net::shutdown(&self.stream, rustix::net::Shutdown::Write) {
            // The client was faster.
            Ok(()) | Err(rustix::io::Errno::NOTCONN) => Poll::Ready(Ok(())),
            Err(errno) => Poll::Ready(Err(errno.into())),
        }
    }
}

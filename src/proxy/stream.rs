//! The connection to a worker, as hyper reads and writes it.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// Where a worker listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamAddress {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

/// The progress of one request on its connection.
#[derive(Debug, Default)]
pub struct Exchange {
    /// The kernel took a byte of the request.
    has_sent: AtomicBool,
    /// A byte of the response has arrived.
    has_received: AtomicBool,
    /// The worker takes no more of the request.
    is_broken: AtomicBool,
    /// The next read looks whether the worker has closed a kept connection.
    checks_end: AtomicBool,
}

impl Exchange {
    /// A request starts.
    pub fn start(&self, checks_end: bool) {
        self.has_sent.store(false, Ordering::Relaxed);
        self.has_received.store(false, Ordering::Relaxed);
        self.checks_end.store(checks_end, Ordering::Relaxed);
    }

    pub fn has_sent(&self) -> bool {
        self.has_sent.load(Ordering::Relaxed)
    }

    pub fn has_received(&self) -> bool {
        self.has_received.load(Ordering::Relaxed)
    }

    pub fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::Relaxed)
    }
}

/// A socket that notes the progress of requests.
#[derive(Debug)]
pub struct UpstreamStream {
    socket: Socket,
    exchange: Arc<Exchange>,
    is_raw: bool,
}

#[derive(Debug)]
enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl UpstreamStream {
    pub async fn connect(address: &UpstreamAddress) -> io::Result<Self> {
        let socket = match address {
            UpstreamAddress::Unix(path) => Socket::Unix(UnixStream::connect(path).await?),
            UpstreamAddress::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                // Otherwise a request may wait for an acknowledgement. A failure costs only that.
                let _ = stream.set_nodelay(true);
                Socket::Tcp(stream)
            }
        };
        Ok(Self {
            socket,
            exchange: Arc::default(),
            is_raw: false,
        })
    }

    /// No response follows, so a failed write is a failure.
    pub fn set_raw(&mut self) {
        self.is_raw = true;
    }

    pub fn exchange(&self) -> Arc<Exchange> {
        Arc::clone(&self.exchange)
    }

    /// Whether the worker has closed the connection. tokio knows it only once its driver has run.
    fn has_ended(&self) -> bool {
        let mut byte = [0_u8; 1];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let received = match &self.socket {
            Socket::Unix(stream) => recv(stream, &mut byte, flags),
            Socket::Tcp(stream) => recv(stream, &mut byte, flags),
        };
        match received {
            Ok((read, _)) => read == 0,
            Err(errno) => errno != rustix::io::Errno::WOULDBLOCK,
        }
    }

    /// A worker may respond before it has read the request, and close the connection. So a failed
    /// write is no failure yet: the response may be there to read.
    fn note_written(
        &self,
        written: Poll<io::Result<usize>>,
        length: usize,
    ) -> Poll<io::Result<usize>> {
        let written = ready!(written);
        if self.is_raw {
            Poll::Ready(written)
        } else if let Ok(written) = written {
            self.exchange.has_sent.store(true, Ordering::Relaxed);
            Poll::Ready(Ok(written))
        } else {
            self.exchange.is_broken.store(true, Ordering::Relaxed);
            Poll::Ready(Ok(length))
        }
    }
}

impl AsyncRead for UpstreamStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.exchange.checks_end.load(Ordering::Relaxed) {
            self.exchange.checks_end.store(false, Ordering::Relaxed);
            if self.has_ended() {
                return Poll::Ready(Ok(()));
            }
        }
        let before = buffer.filled().len();
        let read = match &mut self.socket {
            Socket::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
            Socket::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
        };
        if buffer.filled().len() > before {
            self.exchange.has_received.store(true, Ordering::Relaxed);
        }
        read
    }
}

impl AsyncWrite for UpstreamStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.exchange.is_broken() && !self.is_raw {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = match &mut self.socket {
            Socket::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            Socket::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
        };
        self.note_written(written, bytes.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = slices.iter().map(|slice| slice.len()).sum();
        if self.exchange.is_broken() && !self.is_raw {
            return Poll::Ready(Ok(length));
        }
        let written = match &mut self.socket {
            Socket::Unix(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Socket::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        };
        self.note_written(written, length)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Sockets have no buffer to flush.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            Socket::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

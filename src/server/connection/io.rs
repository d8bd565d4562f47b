//! The socket as hyper reads and writes it. It updates the [`ConnectionState`], and replaces
//! hyper's own error responses.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use super::framing::framing_fields;
use crate::server::http::Service;
use crate::server::pool::{ConnectionState, FramingFields};

/// A socket that others can watch while hyper uses it.
pub struct ConnectionIo {
    stream: Arc<TcpStream>,
    state: Arc<ConnectionState>,
    service: Arc<Service>,
    peer: SocketAddr,
    /// The bytes still to be written in place of hyper's own error response.
    replacement: Bytes,
}

impl ConnectionIo {
    pub fn new(
        stream: Arc<TcpStream>,
        state: Arc<ConnectionState>,
        service: Arc<Service>,
        peer: SocketAddr,
    ) -> Self {
        Self {
            stream,
            state,
            service,
            peer,
            replacement: Bytes::new(),
        }
    }

    /// Reads once. A read that does not fill the buffer has emptied the socket, so the next one
    /// waits for the system's signal. tokio's own `poll_read` does the same, but needs the stream
    /// for itself. This saves a system call for each request, and a client that sends the next
    /// request at once waits for its turn.
    fn read_available(&self, buffer: &mut ReadBuf<'_>) -> io::Result<usize> {
        let capacity = buffer.remaining();
        let mut read = 0;
        let result = self.stream.try_io(Interest::READABLE, || {
            read = self.stream.try_read_buf(buffer)?;
            let is_socket_empty = 0 < read && read < capacity;
            if is_socket_empty {
                // Clears the readiness, unless a newer event has set it again.
                Err(io::ErrorKind::WouldBlock.into())
            } else {
                Ok(())
            }
        });
        if read > 0 {
            Ok(read)
        } else {
            result.map(|()| 0)
        }
    }

    /// Looks for framing fields, if another program will read the request.
    fn find_framing(&self, bytes: &[u8]) -> FramingFields {
        if self.service.has_application() {
            framing_fields(bytes)
        } else {
            FramingFields::default()
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
                self.state.on_write_blocked();
            }
            ready!(readiness)?;
            match write(&self.stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => {
                    self.state.on_written();
                    return Poll::Ready(result);
                }
            }
        }
    }

    /// Whether `response` is hyper's own error response to input that is no valid request. Then a
    /// problem document is written instead.
    fn replaces_hyper_error(&mut self, response: &[u8]) -> bool {
        if !self.state.is_between_responses() {
            return false;
        }
        let Some(replacement) = self.service.replace_hyper_error(response, self.peer) else {
            return false;
        };
        self.replacement = replacement;
        self.state.set_lingers();
        true
    }

    fn poll_replacement(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.replacement.is_empty() {
            let bytes = self.replacement.clone();
            let written = ready!(self.poll_try_write(context, |stream| stream.try_write(&bytes)))?;
            self.replacement.advance(written);
        }
        Poll::Ready(Ok(()))
    }
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
                        let bytes = &buffer.filled()[buffer.filled().len() - read..];
                        self.state.on_read(|| self.find_framing(bytes));
                    }
                    return Poll::Ready(Ok(()));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
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
            .is_some_and(|first| self.replaces_hyper_error(first))
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
        self.state.on_flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_replacement(context))?;
        match rustix::net::shutdown(&self.stream, rustix::net::Shutdown::Write) {
            // The client has closed the connection before.
            Ok(()) | Err(rustix::io::Errno::NOTCONN) => Poll::Ready(Ok(())),
            Err(errno) => Poll::Ready(Err(errno.into())),
        }
    }
}

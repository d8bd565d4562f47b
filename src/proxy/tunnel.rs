//! A WebSocket: bytes in both directions, until both sides have closed theirs.

use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split};
use tokio::time::sleep;

use super::stream::UpstreamStream;
use super::upstream::Ticket;

const BUFFER_LEN: usize = 8 * 1024;

/// The worker's end of a WebSocket.
pub struct Tunnel {
    stream: UpstreamStream,
    /// Bytes of the worker that came with its response.
    received: Bytes,
    _ticket: Ticket,
}

impl Tunnel {
    pub(super) fn new(mut stream: UpstreamStream, received: Bytes, ticket: Ticket) -> Self {
        stream.set_raw();
        Self {
            stream,
            received,
            _ticket: ticket,
        }
    }

    /// Copies bytes in both directions. `sent` came from the client with its request. A side that
    /// closes its direction may still read. Then the other one has to send something every
    /// `half_closed_timeout`, because it may be gone for good.
    ///
    /// # Errors
    ///
    /// A side has broken off the connection.
    pub async fn run(
        self,
        client: impl AsyncRead + AsyncWrite + Send + Unpin,
        sent: Bytes,
        half_closed_timeout: Duration,
    ) -> io::Result<()> {
        let (client_reader, client_writer) = split(client);
        let (worker_reader, worker_writer) = split(self.stream);
        let count = AtomicU64::new(0);
        let mut upwards = pin!(copy(sent, client_reader, worker_writer, &count));
        let mut downwards = pin!(copy(self.received, worker_reader, client_writer, &count));
        let other: Pin<&mut (dyn Future<Output = io::Result<()>> + Send)> = tokio::select! {
            ended = &mut upwards => {
                ended?;
                downwards
            }
            ended = &mut downwards => {
                ended?;
                upwards
            }
        };
        let quiet = async {
            let mut last = count.load(Ordering::Relaxed);
            loop {
                sleep(half_closed_timeout).await;
                let now = count.load(Ordering::Relaxed);
                if std::mem::replace(&mut last, now) == now {
                    return;
                }
            }
        };
        tokio::select! {
            ended = other => ended,
            () = quiet => Ok(()),
        }
    }
}

/// Copies one direction, and closes it at its end.
async fn copy(
    first: Bytes,
    mut reader: impl AsyncRead + Unpin,
    mut writer: impl AsyncWrite + Unpin,
    count: &AtomicU64,
) -> io::Result<()> {
    writer.write_all(&first).await?;
    writer.flush().await?;
    drop(first);
    let mut buffer = vec![0; BUFFER_LEN];
    loop {
        let read = reader.read(&mut buffer).await?;
        if read == 0 {
            return writer.shutdown().await;
        }
        count.fetch_add(1, Ordering::Relaxed);
        writer.write_all(&buffer[..read]).await?;
        writer.flush().await?;
    }
}

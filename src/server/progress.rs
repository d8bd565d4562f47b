//! How far the requests of one connection are: what decides when it may be closed.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use hyper::body::{Body, Frame, SizeHint};

use super::log_stream::LogStream;

/// Shared by a connection, its socket, and the answers on it.
#[derive(Default)]
pub(super) struct Progress {
    /// Requests whose answer has not been handed over whole; never more than one with HTTP/1.1.
    in_flight: AtomicU32,
    answered: AtomicU32,
    writes: AtomicU32,
    /// Bytes have come that are not part of a request that has begun.
    has_partial_head: AtomicBool,
    /// An answer is on its way to the client.
    is_sending: AtomicBool,
    /// The server has asked for its body, so it has its head.
    is_body_asked: AtomicBool,
    /// What follows the answer's head.
    stream: Mutex<Option<LogStream>>,
    /// The head is written, and nothing waits behind it.
    is_flushed: AtomicBool,
}

impl Progress {
    /// A request begins, and lasts until the guard is dropped.
    pub fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.has_partial_head.store(false, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    pub fn has_read(&self) {
        if self.is_between_requests() {
            self.has_partial_head.store(true, Ordering::Relaxed);
        }
    }

    pub fn has_written(&self) {
        self.writes.fetch_add(1, Ordering::Relaxed);
    }

    /// The server has nothing left to write for now.
    pub fn has_flushed(&self) {
        let is_head_done = self.is_body_asked.load(Ordering::Relaxed);
        self.is_flushed.store(is_head_done, Ordering::Relaxed);
    }

    /// The stream that goes on behind the answer's head, once the head is written. Asked by the task that drives the
    /// connection, each time it did.
    pub async fn handed_over(&self) -> LogStream {
        std::future::poll_fn(|_| {
            if !self.is_flushed.load(Ordering::Relaxed) {
                return Poll::Pending;
            }
            let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
            stream.take().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    pub fn is_between_requests(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) == 0
    }

    /// Whether the client has sent nothing at all yet.
    pub fn is_untouched(&self) -> bool {
        self.is_between_requests() && !self.has_partial_head() && self.mark() == (0, 0)
    }

    /// Whether the client has begun a request that it may never finish.
    pub fn has_partial_head(&self) -> bool {
        self.is_between_requests() && self.has_partial_head.load(Ordering::Relaxed)
    }

    /// Whether all that is left to do is the client's: to ask, or to read an answer.
    pub fn awaits_client(&self) -> bool {
        self.is_between_requests() || self.is_sending.load(Ordering::Relaxed)
    }

    /// Changes whenever the client got something.
    pub fn mark(&self) -> (u32, u32) {
        (
            self.answered.load(Ordering::Relaxed),
            self.writes.load(Ordering::Relaxed),
        )
    }
}

/// A request in flight.
pub(super) struct InFlight(Arc<Progress>);

impl InFlight {
    /// Leaves the connection to the stream once the answer's head is written.
    pub fn hand_over(&self, stream: LogStream) {
        // That of the answer before.
        self.0.is_flushed.store(false, Ordering::Relaxed);
        *self.0.stream.lock().unwrap_or_else(PoisonError::into_inner) = Some(stream);
    }

    /// Ties the request's end to that of its answer's body.
    pub fn until_sent<B>(self, body: B) -> Tracked<B> {
        self.0.is_sending.store(true, Ordering::Relaxed);
        Tracked {
            body,
            request: self,
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.is_sending.store(false, Ordering::Relaxed);
        self.0.is_body_asked.store(false, Ordering::Relaxed);
        self.0.answered.fetch_add(1, Ordering::Relaxed);
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A body that ends its request when it ends.
pub(super) struct Tracked<B> {
    body: B,
    request: InFlight,
}

impl<B: Body + Unpin> Body for Tracked<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let progress = &self.request.0;
        progress.is_body_asked.store(true, Ordering::Relaxed);
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

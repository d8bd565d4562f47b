//! How far the requests of one connection are: what decides when it may be closed.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll};

use hyper::body::{Body, Frame, SizeHint};

/// Shared by a connection, its socket, and the answers on it.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Requests whose answer has not been handed over whole; never more than one with HTTP/1.1.
    in_flight: AtomicU32,
    answered: AtomicU32,
    writes: AtomicU32,
    /// Bytes have come that are not part of a request that has begun.
    has_partial_head: AtomicBool,
    /// An answer is on its way to the client.
    is_sending: AtomicBool,
    /// It is an endless stream.
    is_streaming: AtomicBool,
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

    pub fn is_between_requests(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) == 0
    }

    /// Whether its end, left to the client, may never come.
    pub fn is_endless(&self) -> bool {
        self.is_streaming.load(Ordering::Relaxed)
            || self.is_between_requests() && self.has_partial_head.load(Ordering::Relaxed)
    }

    /// Whether all that is left to do is the client's: to ask, or to read an answer that has an end.
    pub fn awaits_client(&self) -> bool {
        let is_sending = self.is_sending.load(Ordering::Relaxed);
        self.is_between_requests() || is_sending && !self.is_streaming.load(Ordering::Relaxed)
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
#[derive(Debug)]
pub(super) struct InFlight(Arc<Progress>);

impl InFlight {
    pub fn mark_streaming(&self) {
        self.0.is_streaming.store(true, Ordering::Relaxed);
    }

    /// Ties the request's end to that of its answer's body.
    pub fn until_sent<B>(self, body: B) -> Tracked<B> {
        self.0.is_sending.store(true, Ordering::Relaxed);
        Tracked {
            body,
            _request: self,
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.is_sending.store(false, Ordering::Relaxed);
        self.0.is_streaming.store(false, Ordering::Relaxed);
        self.0.answered.fetch_add(1, Ordering::Relaxed);
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A body that ends its request when it ends.
pub(super) struct Tracked<B> {
    body: B,
    _request: InFlight,
}

impl<B: Body + Unpin> Body for Tracked<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

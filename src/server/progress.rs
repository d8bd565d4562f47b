//! How far the requests of one connection are: what decides when it may be closed.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::clients::LimitKind;
use super::log_stream::LogStream;

/// When times begin.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);
/// How long a client may pause within a body, or reading an answer, before it counts as one that is waited for.
const STALL_THRESHOLD: Duration = Duration::from_secs(1);

/// What a client is waited for. The first to go when there is no room come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum WaitingFor {
    /// The head of a request, or the first one at all.
    RequestHeaders,
    /// Another request.
    NextRequest,
    /// The reading of an answer.
    ResponseRead,
    /// The rest of a body.
    RequestBody,
}

/// Shared by a connection, its socket, and the answers on it.
pub(super) struct ConnectionState {
    /// Requests whose answer has not been handed over whole; never more than one with HTTP/1.1.
    in_flight: AtomicU32,
    answered: AtomicU32,
    writes: AtomicU32,
    /// Bytes have come that are not part of a request that has begun.
    has_partial_head: AtomicBool,
    /// An answer is on its way to the client.
    is_sending: AtomicBool,
    /// Something was written that the socket has not taken whole. A request ends when hyper has its answer, which is before.
    is_unflushed: AtomicBool,
    /// The client does not take what is sent.
    is_blocked: AtomicBool,
    /// Part of a request's body was left unread.
    has_unread_body: AtomicBool,
    /// The server has asked for its body, so it has its head.
    is_body_asked: AtomicBool,
    /// What follows the answer's head.
    stream: Mutex<Option<LogStream>>,
    /// The head is written, and nothing waits behind it.
    is_flushed: AtomicBool,
    /// Since when the client is waited for, if it is, in microseconds since [`EPOCH`].
    since: AtomicU64,
    /// The server waits for the rest of a request's body.
    awaits_body: AtomicBool,
    /// The [`LimitKind`] that a request's body ran into, plus one.
    body_refused: AtomicU8,
    /// The client may still send when it is refused.
    lingers: AtomicBool,
    /// Somebody else needs the room.
    is_evicted: AtomicBool,
    eviction: Notify,
}

impl fmt::Debug for ConnectionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress").finish_non_exhaustive()
    }
}

impl Default for ConnectionState {
    fn default() -> Self {
        Self {
            in_flight: AtomicU32::default(),
            answered: AtomicU32::default(),
            writes: AtomicU32::default(),
            has_partial_head: AtomicBool::default(),
            is_sending: AtomicBool::default(),
            is_unflushed: AtomicBool::default(),
            is_blocked: AtomicBool::default(),
            has_unread_body: AtomicBool::default(),
            is_body_asked: AtomicBool::default(),
            stream: Mutex::default(),
            is_flushed: AtomicBool::default(),
            since: AtomicU64::new(now()),
            awaits_body: AtomicBool::default(),
            body_refused: AtomicU8::default(),
            lingers: AtomicBool::default(),
            is_evicted: AtomicBool::default(),
            eviction: Notify::new(),
        }
    }
}

fn now() -> u64 {
    u64::try_from(EPOCH.elapsed().as_micros()).unwrap_or(u64::MAX)
}

impl ConnectionState {
    /// A request begins, and lasts until the guard is dropped.
    pub fn start_request(self: &Arc<Self>) -> RequestGuard {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.has_partial_head.store(false, Ordering::Relaxed);
        self.body_refused.store(0, Ordering::Relaxed);
        self.has_unread_body.store(false, Ordering::Relaxed);
        RequestGuard(Arc::clone(self))
    }

    pub fn on_read(&self) {
        if self.is_between_requests() && !self.has_partial_head.swap(true, Ordering::Relaxed) {
            self.restart_wait();
        }
    }

    pub fn on_written(&self) {
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.is_unflushed.store(true, Ordering::Relaxed);
        self.is_blocked.store(false, Ordering::Relaxed);
    }

    /// The client has not taken what was sent before.
    pub fn on_write_blocked(&self) {
        self.is_unflushed.store(true, Ordering::Relaxed);
        if !self.is_blocked.swap(true, Ordering::Relaxed) {
            self.restart_wait();
        }
    }

    /// The server waits for more of a body, or does so no more.
    pub fn set_awaits_body(&self, awaits: bool) {
        if awaits {
            self.restart_wait();
        }
        self.awaits_body.store(awaits, Ordering::Relaxed);
    }

    /// The body of the request ran into a limit.
    pub fn set_body_limit_hit(&self, limit: LimitKind) {
        self.body_refused.store(limit as u8 + 1, Ordering::Relaxed);
    }

    /// The limit that the body of the request ran into.
    pub fn body_limit_hit(&self) -> Option<LimitKind> {
        let number = self.body_refused.load(Ordering::Relaxed).checked_sub(1)?;
        LimitKind::ALL.get(usize::from(number)).copied()
    }

    fn restart_wait(&self) {
        self.since.store(now(), Ordering::Relaxed);
    }

    /// The connection ends with an answer to a client that may still send.
    pub fn set_lingers(&self) {
        self.lingers.store(true, Ordering::Relaxed);
    }

    /// A request's body was not read to its end, so the client may still send it.
    pub fn set_body_unread(&self) {
        self.has_unread_body.store(true, Ordering::Relaxed);
    }

    /// Whether the client may still send when the connection ends.
    pub fn lingers(&self) -> bool {
        self.lingers.load(Ordering::Relaxed) || self.has_unread_body.load(Ordering::Relaxed)
    }

    /// Asks the connection to go.
    pub fn evict(&self) {
        self.is_evicted.store(true, Ordering::Relaxed);
        self.eviction.notify_one();
    }

    pub fn is_evicted(&self) -> bool {
        self.is_evicted.load(Ordering::Relaxed)
    }

    /// Returns once the connection was asked to go, whoever was told before.
    pub async fn evicted(&self) {
        while !self.is_evicted() {
            self.eviction.notified().await;
        }
    }

    /// What the client is waited for, and since when.
    pub fn waiting_since(&self) -> Option<(WaitingFor, Instant)> {
        let is_sending =
            self.is_sending.load(Ordering::Relaxed) || self.is_unflushed.load(Ordering::Relaxed);
        let wait = if is_sending || !self.is_between_requests() {
            if is_sending {
                if !self.is_blocked.load(Ordering::Relaxed) {
                    return None;
                }
                WaitingFor::ResponseRead
            } else if self.awaits_body.load(Ordering::Relaxed) {
                WaitingFor::RequestBody
            } else {
                return None;
            }
        } else if self.has_partial_headers() || self.answered.load(Ordering::Relaxed) == 0 {
            WaitingFor::RequestHeaders
        } else {
            WaitingFor::NextRequest
        };
        let since = Duration::from_micros(self.since.load(Ordering::Relaxed));
        Some((wait, *EPOCH + since))
    }

    /// The same, if all that is left to do is the client's, and it does nothing.
    pub fn evictable_since(&self) -> Option<(WaitingFor, Instant)> {
        self.waiting_since().filter(|(wait, since)| {
            matches!(wait, WaitingFor::RequestHeaders | WaitingFor::NextRequest)
                || since.elapsed() >= STALL_THRESHOLD
        })
    }

    /// The server has nothing left to write for now.
    pub fn on_flushed(&self) {
        let is_head_done = self.is_body_asked.load(Ordering::Relaxed);
        self.is_flushed.store(is_head_done, Ordering::Relaxed);
        if self.is_unflushed.swap(false, Ordering::Relaxed) {
            self.restart_wait();
        }
    }

    /// The stream that goes on behind the answer's head, once the head is written. Asked by the task that drives the
    /// connection, each time it did.
    pub async fn detached_body(&self) -> LogStream {
        std::future::poll_fn(|_| {
            if !self.is_flushed.load(Ordering::Relaxed) {
                return Poll::Pending;
            }
            let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
            stream.take().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Whether there is no request, and no answer that still has to be sent.
    pub fn is_idle(&self) -> bool {
        self.is_between_requests() && !self.is_unflushed.load(Ordering::Relaxed)
    }

    pub fn is_between_requests(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) == 0
    }

    /// Whether the client has sent nothing at all yet.
    pub fn is_untouched(&self) -> bool {
        self.is_between_requests()
            && !self.has_partial_headers()
            && self.answered.load(Ordering::Relaxed) == 0
            && self.writes.load(Ordering::Relaxed) == 0
    }

    /// Whether the client has begun a request that it may never finish.
    pub fn has_partial_headers(&self) -> bool {
        self.is_between_requests() && self.has_partial_head.load(Ordering::Relaxed)
    }
}

/// A request in flight.
pub(super) struct RequestGuard(Arc<ConnectionState>);

impl RequestGuard {
    /// Leaves the connection to the stream once the answer's head is written.
    pub fn detach_body(&self, stream: LogStream) {
        // That of the answer before.
        self.0.is_flushed.store(false, Ordering::Relaxed);
        *self.0.stream.lock().unwrap_or_else(PoisonError::into_inner) = Some(stream);
    }

    /// Ties the request's end to that of its answer's body.
    pub fn track_body<B>(self, body: B) -> TrackedBody<B> {
        self.0.is_sending.store(true, Ordering::Relaxed);
        TrackedBody {
            body,
            request: self,
        }
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.0.is_sending.store(false, Ordering::Relaxed);
        self.0.is_body_asked.store(false, Ordering::Relaxed);
        self.0.awaits_body.store(false, Ordering::Relaxed);
        self.0.restart_wait();
        self.0.answered.fetch_add(1, Ordering::Relaxed);
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A body that ends its request when it ends.
pub(super) struct TrackedBody<B> {
    body: B,
    request: RequestGuard,
}

impl<B: Body + Unpin> Body for TrackedBody<B> {
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

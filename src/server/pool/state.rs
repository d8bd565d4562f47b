//! The state of one connection. It decides when the connection may be closed.
//!
//! | phase | until | the client is waited for |
//! |---|---|---|
//! | idle | the next request starts | to send request headers |
//! | handling a request | the handler has a response | to send the request body, if the handler reads it |
//! | responding | hyper has the whole response body | to read, if the socket takes no more |
//! | detached | the connection ends | to read, if the socket takes no more |
//!
//! Output that hyper has not flushed yet belongs to a response as well: hyper drops a short body,
//! which ends its request, before it writes the body to the socket.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::detached::DetachedBody;
use crate::proxy::Tunnel;
use crate::server::limits::LimitKind;

/// How long a client may pause inside a body, or while it reads a response, before it is considered
/// stalled.
const STALL_THRESHOLD: Duration = Duration::from_secs(1);

/// The next thing that a client should do. Connections that wait for an earlier variant are evicted first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WaitingFor {
    /// The headers of the first request, or the rest of partial headers.
    RequestHeaders,
    /// Another request.
    NextRequest,
    /// The client has to read the response.
    ResponseRead,
    /// The rest of a request body.
    RequestBody,
}

/// Fields of the headers of a request that say where it ends.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct FramingFields {
    pub transfer_encoding: bool,
    pub content_length: bool,
}

/// Shared by a connection, its socket, and the requests and responses on it.
#[derive(Default)]
pub struct ConnectionState {
    inner: Mutex<Inner>,
    eviction: Notify,
}

struct Inner {
    phase: RequestPhase,
    output: Output,
    /// Since when the client is waited for, if it is.
    waiting_since: Instant,
    activity: Activity,
    unread: UnreadInput,
    /// The limit that the body of the current request exceeded.
    body_limit_hit: Option<LimitKind>,
    is_evicted: bool,
    /// Replaces hyper once it has written the response headers.
    detached_body: Option<DetachedBody>,
    /// Replaces hyper once it has written a response that begins a WebSocket.
    tunnel: Option<Box<Tunnel>>,
    /// The request is one of the application, and ends if the client leaves.
    ends_with_client: bool,
    /// hyper has dropped the response body, and may have to write its end.
    owes_flush: bool,
    /// Those of the headers that are being read.
    framing: FramingFields,
    /// Those of the current request.
    request_framing: FramingFields,
    /// When the socket last took all output.
    flushed_at: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RequestPhase {
    Idle {
        has_partial_headers: bool,
    },
    Handling {
        awaits_body: bool,
    },
    Responding(ResponseStep),
    /// Hyper has left the connection to a [`DetachedBody`] or a [`Tunnel`]. Nothing follows.
    Detached,
}

const IDLE: RequestPhase = RequestPhase::Idle {
    has_partial_headers: false,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ResponseStep {
    /// Hyper has the response, and has not polled its body.
    Started,
    /// Hyper has polled the body, so the headers are in its buffer.
    BodyPolled,
    /// The socket has taken the headers.
    HeadersFlushed,
}

/// The state of the bytes that hyper has written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Output {
    Flushed,
    Unflushed,
    /// The socket takes no more: the client does not read.
    Blocked,
}

/// The use of the connection so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Activity {
    None,
    Written,
    /// A request is finished.
    Responded,
}

/// Input that the client may still send although nobody reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UnreadInput {
    None,
    /// The rest of the current request's body.
    Body,
    /// Anything: the connection ends with a response that does not need the rest of the input.
    Any,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            phase: IDLE,
            output: Output::Flushed,
            waiting_since: Instant::now(),
            activity: Activity::None,
            unread: UnreadInput::None,
            body_limit_hit: None,
            is_evicted: false,
            detached_body: None,
            tunnel: None,
            ends_with_client: false,
            owes_flush: false,
            framing: FramingFields::default(),
            request_framing: FramingFields::default(),
            flushed_at: Instant::now(),
        }
    }
}

impl Inner {
    fn restart_wait(&mut self) {
        self.waiting_since = Instant::now();
    }

    fn is_between_requests(&self) -> bool {
        matches!(self.phase, RequestPhase::Idle { .. })
    }

    fn waiting_for(&self) -> Option<WaitingFor> {
        match (self.output, self.phase) {
            (Output::Blocked, _) => Some(WaitingFor::ResponseRead),
            (Output::Unflushed, _) | (_, RequestPhase::Responding(_) | RequestPhase::Detached) => {
                None
            }
            (_, RequestPhase::Handling { awaits_body }) => {
                awaits_body.then_some(WaitingFor::RequestBody)
            }
            (
                _,
                RequestPhase::Idle {
                    has_partial_headers,
                },
            ) => Some(
                if has_partial_headers || self.activity != Activity::Responded {
                    WaitingFor::RequestHeaders
                } else {
                    WaitingFor::NextRequest
                },
            ),
        }
    }
}

impl ConnectionState {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a request, which is in flight until the guard is dropped. HTTP/1.1 never has more
    /// than one.
    pub fn start_request(self: &Arc<Self>) -> RequestGuard {
        let mut inner = self.lock();
        inner.phase = RequestPhase::Handling { awaits_body: false };
        inner.body_limit_hit = None;
        inner.ends_with_client = false;
        inner.request_framing = std::mem::take(&mut inner.framing);
        if inner.unread == UnreadInput::Body {
            inner.unread = UnreadInput::None;
        }
        drop(inner);
        RequestGuard(Arc::clone(self))
    }

    /// Whether the current request has both framing fields.
    pub fn has_two_framings(&self) -> bool {
        let framing = self.lock().request_framing;
        framing.transfer_encoding && framing.content_length
    }

    /// Bytes were read from the socket. `find_framing` is called if they belong to headers.
    pub fn on_read(&self, find_framing: impl FnOnce() -> FramingFields) {
        let mut inner = self.lock();
        if inner.is_between_requests() {
            let found = find_framing();
            inner.framing.transfer_encoding |= found.transfer_encoding;
            inner.framing.content_length |= found.content_length;
        }
        if let RequestPhase::Idle {
            has_partial_headers: has_partial_headers @ false,
        } = &mut inner.phase
        {
            *has_partial_headers = true;
            inner.restart_wait();
        }
    }

    /// The socket took bytes, or failed.
    pub fn on_written(&self) {
        let mut inner = self.lock();
        if inner.activity == Activity::None {
            inner.activity = Activity::Written;
        }
        inner.output = Output::Unflushed;
    }

    /// The socket takes no more.
    pub fn on_write_blocked(&self) {
        let mut inner = self.lock();
        if inner.output != Output::Blocked {
            inner.output = Output::Blocked;
            inner.restart_wait();
        }
    }

    /// The socket took everything that was written.
    pub fn on_flushed(&self) {
        let mut inner = self.lock();
        inner.owes_flush = false;
        if inner.output != Output::Flushed {
            inner.output = Output::Flushed;
            inner.restart_wait();
            inner.flushed_at = inner.waiting_since;
        }
        if let RequestPhase::Responding(step @ ResponseStep::BodyPolled) = &mut inner.phase {
            *step = ResponseStep::HeadersFlushed;
        }
    }

    /// The handler starts or stops waiting for more of the request body.
    pub fn set_awaits_body(&self, awaits: bool) {
        let mut inner = self.lock();
        if let RequestPhase::Handling { awaits_body } = &mut inner.phase {
            *awaits_body = awaits;
            if awaits {
                inner.restart_wait();
            }
        }
    }

    /// The body of the request exceeded a limit.
    pub fn set_body_limit_hit(&self, limit: LimitKind) {
        self.lock().body_limit_hit = Some(limit);
    }

    pub fn body_limit_hit(&self) -> Option<LimitKind> {
        self.lock().body_limit_hit
    }

    /// The connection ends with a response to a client that may still send.
    pub fn set_lingers(&self) {
        self.lock().unread = UnreadInput::Any;
    }

    /// The body of the request was not read to its end, so the client may still send it.
    pub fn set_unread_body(&self) {
        let mut inner = self.lock();
        if inner.unread == UnreadInput::None {
            inner.unread = UnreadInput::Body;
        }
    }

    /// Whether the client may still send when the connection ends.
    pub fn lingers(&self) -> bool {
        self.lock().unread != UnreadInput::None
    }

    /// Whether a response that starts now is the last one.
    pub fn closes_after_response(&self) -> bool {
        let inner = self.lock();
        inner.is_evicted || inner.unread != UnreadInput::None
    }

    /// Requests the connection to end.
    pub fn evict(&self) {
        self.lock().is_evicted = true;
        self.eviction.notify_one();
    }

    pub fn is_evicted(&self) -> bool {
        self.lock().is_evicted
    }

    /// Returns once the connection is evicted, also if it was before.
    pub async fn evicted(&self) {
        while !self.is_evicted() {
            self.eviction.notified().await;
        }
    }

    /// The next thing that the client should do, and since when it is due.
    pub fn waiting_since(&self) -> Option<(WaitingFor, Instant)> {
        let inner = self.lock();
        Some((inner.waiting_for()?, inner.waiting_since))
    }

    /// The same, if closing the connection now interrupts nothing that makes progress.
    pub fn evictable_since(&self) -> Option<(WaitingFor, Instant)> {
        self.waiting_since().filter(|(waiting, since)| {
            let has_no_request = *waiting <= WaitingFor::NextRequest;
            has_no_request || since.elapsed() >= STALL_THRESHOLD
        })
    }

    /// The current request ends if the client leaves.
    pub fn set_ends_with_client(&self) {
        self.lock().ends_with_client = true;
    }

    /// Whether the current request ends if the client leaves, and when the client last got bytes.
    pub fn ends_with_client(&self) -> Option<Instant> {
        let inner = self.lock();
        let is_waiting = inner.ends_with_client && !inner.is_between_requests();
        is_waiting.then_some(inner.flushed_at)
    }

    /// Takes the tunnel that the connection becomes.
    pub fn take_tunnel(&self) -> Option<Box<Tunnel>> {
        self.lock().tunnel.take()
    }

    /// Returns the body that continues without hyper, once the response headers are flushed. There
    /// is no wake-up: only the task that drives the connection may await this, because it polls
    /// again after each flush.
    pub async fn detached_body(&self) -> DetachedBody {
        std::future::poll_fn(|_| {
            let mut inner = self.lock();
            if inner.phase != RequestPhase::Responding(ResponseStep::HeadersFlushed) {
                return Poll::Pending;
            }
            let Some(body) = inner.detached_body.take() else {
                return Poll::Pending;
            };
            inner.phase = RequestPhase::Detached;
            Poll::Ready(body)
        })
        .await
    }

    /// Whether there is neither a request nor an unfinished response.
    pub fn is_idle(&self) -> bool {
        let inner = self.lock();
        inner.is_between_requests() && inner.output == Output::Flushed
    }

    /// Whether bytes that hyper writes now belong to no response.
    pub fn is_between_responses(&self) -> bool {
        let inner = self.lock();
        inner.is_between_requests() && !inner.owes_flush
    }

    /// Whether the client has sent nothing yet.
    pub fn is_untouched(&self) -> bool {
        let inner = self.lock();
        inner.phase == IDLE && inner.activity == Activity::None
    }

    /// Whether the client has started a request that it may never finish.
    pub fn has_partial_headers(&self) -> bool {
        let partial = RequestPhase::Idle {
            has_partial_headers: true,
        };
        self.lock().phase == partial
    }
}

/// A request in flight.
pub struct RequestGuard(Arc<ConnectionState>);

impl RequestGuard {
    /// Lets `body` continue without hyper once the response headers are flushed.
    pub fn detach_body(&self, body: DetachedBody) {
        self.0.lock().detached_body = Some(body);
    }

    /// Makes the connection a tunnel once hyper has written the response.
    pub fn set_tunnel(&self, tunnel: Box<Tunnel>) {
        self.0.lock().tunnel = Some(tunnel);
    }

    /// Ends the request when the response body ends.
    pub fn track_body<B>(self, body: B) -> TrackedBody<B> {
        self.0.lock().phase = RequestPhase::Responding(ResponseStep::Started);
        TrackedBody {
            body,
            request: self,
        }
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        let mut inner = self.0.lock();
        inner.activity = Activity::Responded;
        inner.owes_flush = true;
        if inner.tunnel.is_some() {
            inner.phase = RequestPhase::Detached;
        }
        if inner.phase != RequestPhase::Detached {
            inner.phase = IDLE;
            inner.restart_wait();
        }
    }
}

/// A response body that ends its request when it is dropped.
pub struct TrackedBody<B> {
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
        if let RequestPhase::Responding(step @ ResponseStep::Started) =
            &mut self.request.0.lock().phase
        {
            *step = ResponseStep::BodyPolled;
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(state: &ConnectionState) -> Option<WaitingFor> {
        state.waiting_since().map(|(waiting, _)| waiting)
    }

    #[test]
    fn request_passes_through_all_phases() {
        let state = Arc::<ConnectionState>::default();
        assert!(state.is_untouched() && state.is_idle());
        assert_eq!(waiting(&state), Some(WaitingFor::RequestHeaders));
        state.on_read(FramingFields::default);
        assert!(state.has_partial_headers() && !state.is_untouched());

        let request = state.start_request();
        assert!(!state.is_between_responses() && !state.has_partial_headers());
        assert_eq!(waiting(&state), None);
        state.set_awaits_body(true);
        assert_eq!(waiting(&state), Some(WaitingFor::RequestBody));

        let body = request.track_body(());
        assert_eq!(waiting(&state), None);
        state.on_write_blocked();
        assert_eq!(waiting(&state), Some(WaitingFor::ResponseRead));
        state.on_written();
        drop(body);
        // hyper has dropped the body, but the socket has not taken all of it.
        assert!(!state.is_between_responses() && !state.is_idle());
        assert_eq!(waiting(&state), None);
        state.on_flushed();
        assert!(state.is_between_responses());
        assert!(state.is_idle());
        assert_eq!(waiting(&state), Some(WaitingFor::NextRequest));
    }

    #[test]
    fn unread_body_lingers_until_the_next_request() {
        let state = Arc::<ConnectionState>::default();
        let request = state.start_request();
        state.set_unread_body();
        drop(request);
        assert!(state.lingers() && state.closes_after_response());
        let request = state.start_request();
        assert!(!state.lingers());
        state.set_lingers();
        drop(request);
        let _request = state.start_request();
        assert!(state.lingers());
    }
}

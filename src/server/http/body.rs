//! The limits of request bodies, and the rest of a body that no handler reads.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http_body_util::BodyExt as _;
use http_body_util::combinators::BoxBody;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::EXPECT;
use hyper::{HeaderMap, Request};
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep};

use crate::config::Limits;
use crate::server::limits::LimitKind;
use crate::server::pool::ConnectionState;

/// How much of a body that no handler reads is read after the response is made.
const MAX_DRAINED_BYTES: usize = 64 * 1024;

type RequestBody = BoxBody<Bytes, io::Error>;

/// A request body that fails once it is too large or too slow. It notes the reason in the
/// [`ConnectionState`].
pub struct LimitedBody {
    inner: BoxBody<Bytes, io::Error>,
    remaining: usize,
    deadline: Pin<Box<Sleep>>,
    state: Arc<ConnectionState>,
    /// hyper's own body does not know that chunks have ended.
    has_ended: bool,
    unread: Option<oneshot::Sender<RequestBody>>,
}

/// The body of a request after its handler.
pub struct UnreadBody(oneshot::Receiver<RequestBody>);

impl UnreadBody {
    /// The body if the handler has dropped it, and did not read it to its end or to a limit.
    pub fn take(mut self) -> Option<RequestBody> {
        self.0.try_recv().ok()
    }
}

impl LimitedBody {
    pub fn wrap(
        inner: RequestBody,
        limits: &Limits,
        state: &Arc<ConnectionState>,
    ) -> (RequestBody, UnreadBody) {
        let (sender, receiver) = oneshot::channel();
        let unread = UnreadBody(receiver);
        if inner.is_end_stream() {
            return (inner, unread);
        }
        let body = BoxBody::new(Self {
            inner,
            remaining: limits.max_body_size,
            deadline: Box::pin(sleep(limits.body_timeout)),
            state: Arc::clone(state),
            has_ended: false,
            unread: Some(sender),
        });
        (body, unread)
    }

    fn fail<T>(&mut self, limit: LimitKind) -> Poll<Option<io::Result<T>>> {
        self.unread = None;
        self.state.set_awaits_body(false);
        self.state.set_body_limit_hit(limit);
        Poll::Ready(Some(Err(io::Error::other(limit.as_str()))))
    }
}

impl Drop for LimitedBody {
    fn drop(&mut self) {
        self.state.set_awaits_body(false);
        if self.has_ended || self.inner.is_end_stream() {
            return;
        }
        let body = std::mem::take(&mut self.inner);
        let is_taken = self
            .unread
            .take()
            .is_some_and(|unread| unread.send(body).is_ok());
        if !is_taken {
            self.state.set_unread_body();
        }
    }
}

impl Body for LimitedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        self.state.set_awaits_body(polled.is_pending());
        match polled {
            Poll::Pending => match self.deadline.as_mut().poll(context) {
                Poll::Ready(()) => self.fail(LimitKind::BodyTimeout),
                Poll::Pending => Poll::Pending,
            },
            Poll::Ready(Some(Ok(frame))) => {
                let length = frame.data_ref().map_or(0, Bytes::len);
                match self.remaining.checked_sub(length) {
                    Some(remaining) => self.remaining = remaining,
                    None => return self.fail(LimitKind::BodySize),
                }
                Poll::Ready(Some(Ok(frame)))
            }
            end @ Poll::Ready(_) => {
                self.has_ended = matches!(end, Poll::Ready(None));
                end
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Whether the client waits for `100 Continue`, which a read of the body would send.
pub fn awaits_continue(headers: &HeaderMap) -> bool {
    headers.contains_key(EXPECT)
}

/// Drains the body of a request that needs no handler.
pub async fn drain_request<B>(request: Request<B>, state: &ConnectionState)
where
    B: Body<Data = Bytes> + Unpin,
{
    if !request.body().is_end_stream() {
        let awaits_continue = awaits_continue(request.headers());
        drain_body(request.into_body(), awaits_continue, state).await;
    }
}

/// Reads the rest of a body as far as it has arrived, so that the connection can be used again.
/// Otherwise the connection ends after the response, because the rest may be long.
pub async fn drain_body<B>(mut body: B, awaits_continue: bool, state: &ConnectionState)
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut remaining = MAX_DRAINED_BYTES;
    let mut has_yielded = false;
    if awaits_continue || state.closes_after_response() {
        return state.set_unread_body();
    }
    while !body.is_end_stream() {
        match body.frame().now_or_never() {
            Some(None) => return,
            Some(Some(Ok(frame))) => {
                let length = frame.data_ref().map_or(0, Bytes::len);
                match remaining.checked_sub(length) {
                    Some(left) => remaining = left,
                    None => return state.set_unread_body(),
                }
                has_yielded = false;
            }
            // hyper reads the next part once this one is taken and the task runs again.
            None if !has_yielded => {
                has_yielded = true;
                tokio::task::yield_now().await;
            }
            Some(Some(Err(_))) | None => return state.set_unread_body(),
        }
    }
}

//! The limits of request bodies.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use crate::config::Limits;
use crate::server::limits::LimitKind;
use crate::server::pool::ConnectionState;

/// A request body that fails once it is too large or too slow. It notes the reason in the
/// [`ConnectionState`].
pub struct LimitedBody {
    inner: BoxBody<Bytes, io::Error>,
    remaining: usize,
    deadline: Pin<Box<Sleep>>,
    state: Arc<ConnectionState>,
}

impl LimitedBody {
    pub fn wrap(
        inner: BoxBody<Bytes, io::Error>,
        limits: &Limits,
        state: &Arc<ConnectionState>,
    ) -> BoxBody<Bytes, io::Error> {
        if inner.is_end_stream() {
            return inner;
        }
        BoxBody::new(Self {
            inner,
            remaining: limits.max_body_size,
            deadline: Box::pin(sleep(limits.body_timeout)),
            state: Arc::clone(state),
        })
    }

    fn fail<T>(&self, limit: LimitKind) -> Poll<Option<io::Result<T>>> {
        self.state.set_awaits_body(false);
        self.state.set_body_limit_hit(limit);
        Poll::Ready(Some(Err(io::Error::other(limit.as_str()))))
    }
}

impl Drop for LimitedBody {
    fn drop(&mut self) {
        self.state.set_awaits_body(false);
        if !self.inner.is_end_stream() {
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
            end @ Poll::Ready(_) => end,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

//! The body of a request, as large and as slow as the limits allow.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use super::clients::LimitKind;
use super::progress::ConnectionState;
use crate::config::Limits;

/// A body that fails, and notes why, once it is too large or takes too long.
pub(super) struct LimitedBody {
    inner: BoxBody<Bytes, io::Error>,
    remaining: usize,
    deadline: Pin<Box<Sleep>>,
    progress: Arc<ConnectionState>,
}

impl LimitedBody {
    /// The same body, limited.
    pub fn wrap(
        inner: BoxBody<Bytes, io::Error>,
        limits: &Limits,
        progress: &Arc<ConnectionState>,
    ) -> BoxBody<Bytes, io::Error> {
        if inner.is_end_stream() {
            return inner;
        }
        BoxBody::new(Self {
            inner,
            remaining: limits.max_body_size,
            deadline: Box::pin(sleep(limits.body_timeout)),
            progress: Arc::clone(progress),
        })
    }

    fn fail<T>(&self, limit: LimitKind) -> Poll<Option<io::Result<T>>> {
        self.progress.set_awaits_body(false);
        self.progress.set_body_limit_hit(limit);
        Poll::Ready(Some(Err(io::Error::other(limit.as_str()))))
    }
}

impl Drop for LimitedBody {
    fn drop(&mut self) {
        self.progress.set_awaits_body(false);
        if !self.inner.is_end_stream() {
            self.progress.set_body_unread();
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
        self.progress.set_awaits_body(polled.is_pending());
        match polled {
            Poll::Pending => match self.deadline.as_mut().poll(context) {
                Poll::Ready(()) => self.fail(LimitKind::BodyTimeout),
                Poll::Pending => Poll::Pending,
            },
            Poll::Ready(Some(Ok(frame))) => {
                let length = frame.data_ref().map_or(0, Bytes::len);
                match self.remaining.checked_sub(length) {
                    Some(left) => self.remaining = left,
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

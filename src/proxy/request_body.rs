//! The body of a request on its way to a worker.
//!
//! A short body is read before a worker is chosen: a slow client then occupies no worker, and the
//! request can be sent again. A longer one streams.

use std::error::Error;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Instant;

/// The longest body that is read before a worker is chosen.
pub const MAX_BUFFERED: usize = 64 * 1024;

/// The error of a body.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// The body of a request to a worker.
pub struct RequestBody(Inner);

enum Inner {
    /// The bytes that are left.
    Buffered(Bytes),
    Streamed {
        /// The part that was read while the body could have been a short one.
        first: Bytes,
        rest: UnsyncBoxBody<Bytes, BoxError>,
        progress: Arc<Progress>,
    },
}

/// How far a streamed body is.
#[derive(Debug)]
pub struct Progress(Mutex<Step>);

#[derive(Debug, Clone, Copy)]
pub enum Step {
    /// The client has to send more.
    AwaitsClient,
    /// The worker has to read on, since then.
    AwaitsWorker(Instant),
    /// The body ended then.
    Ended(Instant),
}

/// A body that was read as far as it is buffered.
pub enum ReadBody {
    Whole(Bytes),
    Long(RequestBody, Arc<Progress>),
}

impl ReadBody {
    /// Reads a body until it ends or is too long.
    pub async fn read<B>(mut body: B) -> Result<Self, BoxError>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        if body.is_end_stream() {
            return Ok(Self::Whole(Bytes::new()));
        }
        let mut first = Bytes::new();
        let mut more = BytesMut::new();
        let is_long = |read: usize, body: &B| {
            let known = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
            read.saturating_add(known) > MAX_BUFFERED
        };
        while !is_long(first.len() + more.len(), &body) {
            let frame = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
            let Some(frame) = frame.transpose().map_err(Into::into)? else {
                return Ok(Self::Whole(joined(first, &more)));
            };
            // Trailers of a request are left out.
            if let Ok(data) = frame.into_data() {
                if first.is_empty() {
                    first = data;
                } else {
                    more.extend_from_slice(&data);
                }
            }
            if body.is_end_stream() {
                return Ok(Self::Whole(joined(first, &more)));
            }
        }
        let progress = Arc::new(Progress(Mutex::new(Step::AwaitsWorker(Instant::now()))));
        let body = RequestBody(Inner::Streamed {
            first: joined(first, &more),
            rest: body.map_err(Into::into).boxed_unsync(),
            progress: Arc::clone(&progress),
        });
        Ok(Self::Long(body, progress))
    }
}

fn joined(first: Bytes, more: &BytesMut) -> Bytes {
    if more.is_empty() {
        return first;
    }
    let mut whole = BytesMut::with_capacity(first.len() + more.len());
    whole.extend_from_slice(&first);
    whole.extend_from_slice(more);
    whole.freeze()
}

impl Progress {
    pub fn step(&self) -> Step {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, step: Step) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = step;
    }
}

impl RequestBody {
    pub fn empty() -> Self {
        Self::buffered(Bytes::new())
    }

    pub fn buffered(bytes: Bytes) -> Self {
        Self(Inner::Buffered(bytes))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.0 {
            Inner::Buffered(bytes) if bytes.is_empty() => Poll::Ready(None),
            Inner::Buffered(first) | Inner::Streamed { first, .. } if !first.is_empty() => {
                Poll::Ready(Some(Ok(Frame::data(std::mem::take(first)))))
            }
            Inner::Buffered(_) => Poll::Ready(None),
            Inner::Streamed { rest, progress, .. } => {
                let polled = Pin::new(&mut *rest).poll_frame(context);
                let has_ended = matches!(polled, Poll::Ready(None)) || rest.is_end_stream();
                progress.set(match &polled {
                    _ if has_ended => Step::Ended(Instant::now()),
                    Poll::Pending => Step::AwaitsClient,
                    Poll::Ready(_) => Step::AwaitsWorker(Instant::now()),
                });
                match polled {
                    Poll::Ready(Some(Ok(frame))) if !frame.is_data() => Poll::Ready(None),
                    polled => polled,
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Buffered(bytes) => bytes.is_empty(),
            Inner::Streamed { first, rest, .. } => first.is_empty() && rest.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Buffered(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Inner::Streamed { first, rest, .. } => {
                let rest = rest.size_hint();
                let mut hint = SizeHint::new();
                hint.set_lower(rest.lower() + first.len() as u64);
                if let Some(upper) = rest.upper() {
                    hint.set_upper(upper + first.len() as u64);
                }
                hint
            }
        }
    }
}

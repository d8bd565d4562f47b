//! Requests to the application on the public port: their bodies, and the paths that are not the
//! application's.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use super::access_log::HEALTH_PATH;
use crate::server::limits::LimitKind;
use crate::server::pool::ConnectionState;

/// Whether the daemon itself responds to a path, also if there is an application.
pub fn is_own_path(path: &str) -> bool {
    path.strip_prefix(HEALTH_PATH)
        .is_some_and(|rest| matches!(rest, "" | "/live" | "/ready"))
}

/// A request body that fails once the client pauses for too long. It may have any length.
pub struct StreamedBody {
    inner: Incoming,
    timeout: Duration,
    /// Runs while the client has to send more.
    timer: Option<Pin<Box<Sleep>>>,
    is_waiting: bool,
    /// hyper's own body does not know that chunks have ended.
    has_ended: bool,
    state: Arc<ConnectionState>,
}

impl StreamedBody {
    /// A body whose client may pause for `timeout`.
    pub fn new(inner: Incoming, timeout: Duration, state: &Arc<ConnectionState>) -> Self {
        Self {
            inner,
            timeout,
            timer: None,
            is_waiting: false,
            has_ended: false,
            state: Arc::clone(state),
        }
    }

    /// Returns once the client has paused for too long.
    fn poll_timer(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let timeout = self.timeout;
        let is_new = !std::mem::replace(&mut self.is_waiting, true);
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(timeout)));
        if is_new {
            timer.as_mut().reset(Instant::now() + timeout);
        }
        timer.as_mut().poll(context)
    }
}

impl Drop for StreamedBody {
    fn drop(&mut self) {
        self.state.set_awaits_body(false);
        if !self.has_ended && !self.inner.is_end_stream() {
            self.state.set_unread_body();
        }
    }
}

impl Body for StreamedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        self.state.set_awaits_body(polled.is_pending());
        match polled {
            Poll::Pending => {
                if self.poll_timer(context).is_pending() {
                    return Poll::Pending;
                }
                self.state.set_awaits_body(false);
                self.state.set_body_limit_hit(LimitKind::BodyTimeout);
                let error = io::Error::new(io::ErrorKind::TimedOut, "the client has paused");
                Poll::Ready(Some(Err(error)))
            }
            Poll::Ready(frame) => {
                self.is_waiting = false;
                self.has_ended = frame.is_none();
                Poll::Ready(frame.map(|frame| frame.map_err(io::Error::other)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_paths_stay_with_the_daemon() {
        for path in ["/health", "/health/live", "/health/ready"] {
            assert!(is_own_path(path), "{path}");
        }
        for path in [
            "/",
            "/healthy",
            "/health/",
            "/health/x",
            "//health",
            "/Health",
            "/docs",
        ] {
            assert!(!is_own_path(path), "{path}");
        }
    }
}

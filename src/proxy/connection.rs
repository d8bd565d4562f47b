//! One HTTP/1.1 connection to a worker.
//!
//! No task drives it. The future of the request and the body of the response do, in the task of the
//! client's connection. So a request wakes no second task, and a client that leaves takes its
//! request with it. Only a response that begins before the request has ended gets a task: the client
//! may read it after it has sent the rest.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::request_body::RequestBody;
use super::stream::{Exchange, UpstreamAddress, UpstreamStream};

/// A connection that was used just before is not checked: that costs a system call.
const CHECK_AFTER: Duration = Duration::from_millis(1);

/// A connection to a worker.
pub struct Connection {
    sender: SendRequest<RequestBody>,
    driver: Driver,
    exchange: Arc<Exchange>,
    /// When the last response ended.
    pub idle_since: Option<Instant>,
}

enum Driver {
    Inline(http1::Connection<TokioIo<UpstreamStream>, RequestBody>),
    /// It has ended, or an upgrade leaves it to the caller.
    Ended(Option<http1::Connection<TokioIo<UpstreamStream>, RequestBody>>),
    Task(AbortHandle),
}

/// There is no response.
pub struct SendFailure {
    pub error: hyper::Error,
    /// Whether the worker may have seen a part of the request.
    pub has_sent: bool,
    /// Whether a part of the response has arrived.
    pub has_received: bool,
}

impl Connection {
    pub async fn open(address: &UpstreamAddress) -> io::Result<Box<Self>> {
        let stream = UpstreamStream::connect(address).await?;
        let exchange = stream.exchange();
        let (sender, driver) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        Ok(Box::new(Self {
            sender,
            driver: Driver::Inline(driver),
            exchange,
            idle_since: None,
        }))
    }

    /// Sends a request and waits for the headers of the response.
    pub async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, SendFailure> {
        let idle_since = self.idle_since.take();
        let checks_end = idle_since.is_some_and(|since| since.elapsed() >= CHECK_AFTER);
        self.exchange.start(checks_end);
        let mut response = pin!(self.sender.try_send_request(request));
        let response = poll_fn(|context| {
            self.driver.poll(context);
            if let Poll::Ready(response) = response.as_mut().poll(context) {
                return Poll::Ready(response);
            }
            let Driver::Ended(connection) = &mut self.driver else {
                return Poll::Pending;
            };
            // A request that it did not take is returned once it is dropped.
            *connection = None;
            response.as_mut().poll(context)
        })
        .await;
        response.map_err(|failure| SendFailure {
            error: failure.into_error(),
            has_sent: self.exchange.has_sent(),
            has_received: self.exchange.has_received(),
        })
    }

    /// Reads and writes as far as it is possible now.
    pub fn poll(&mut self, context: &mut Context<'_>) {
        self.driver.poll(context);
    }

    /// Lets a task read and write from now on.
    pub fn drive_in_task(&mut self) {
        self.driver = match std::mem::replace(&mut self.driver, Driver::Ended(None)) {
            Driver::Inline(connection) => Driver::Task(
                tokio::spawn(async move {
                    // The response has the error.
                    let _ = connection.await;
                })
                .abort_handle(),
            ),
            other => other,
        };
    }

    /// Whether it can take another request.
    pub fn is_reusable(&self) -> bool {
        matches!(self.driver, Driver::Inline(_))
            && self.sender.is_ready()
            && !self.exchange.is_broken()
    }

    /// The socket after a response with 101, and bytes that were read from it.
    pub async fn into_upgraded(mut self: Box<Self>) -> Option<(UpstreamStream, Bytes)> {
        poll_fn(|context| {
            self.driver.poll(context);
            if matches!(self.driver, Driver::Inline(_)) {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })
        .await;
        let driver = std::mem::replace(&mut self.driver, Driver::Ended(None));
        let Driver::Ended(Some(connection)) = driver else {
            return None;
        };
        let parts = connection.into_parts();
        Some((parts.io.into_inner(), parts.read_buf))
    }
}

impl Driver {
    fn poll(&mut self, context: &mut Context<'_>) {
        if let Self::Inline(connection) = self
            && Pin::new(connection).poll(context).is_ready()
            && let Self::Inline(connection) = std::mem::replace(self, Self::Ended(None))
        {
            *self = Self::Ended(Some(connection));
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Driver::Task(task) = &self.driver {
            task.abort();
        }
    }
}

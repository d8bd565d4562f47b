//! The body of a response on its way to the client.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::HeaderValue;

use super::connection::Connection;
use super::error::ErrorReason;
use super::stats::ProxyStats;
use super::tunnel::Tunnel;
use super::upstream::Ticket;

/// The body of a response of the application. The connection to the worker is kept for another
/// request once the body has ended, and closed if it is dropped before.
pub struct ProxyBody {
    incoming: Option<Incoming>,
    source: Option<Source>,
    tunnel: Option<Box<Tunnel>>,
}

/// The connection that the rest of a body comes from.
struct Source {
    connection: Box<Connection>,
    ticket: Ticket,
    stats: Arc<ProxyStats>,
    request_id: HeaderValue,
}

impl ProxyBody {
    /// The body of a response of this connection.
    pub(super) fn new(
        incoming: Incoming,
        connection: Box<Connection>,
        ticket: Ticket,
        stats: Arc<ProxyStats>,
        request_id: HeaderValue,
    ) -> Self {
        Self {
            incoming: Some(incoming),
            source: Some(Source {
                connection,
                ticket,
                stats,
                request_id,
            }),
            tunnel: None,
        }
    }

    /// Ends a body without bytes at once.
    pub(super) fn end_if_empty(&mut self, context: &mut Context<'_>) {
        if self.is_end_stream() {
            self.end(context);
        }
    }

    /// No body: the connection becomes a tunnel.
    pub(super) fn tunnel(tunnel: Tunnel) -> Self {
        Self {
            incoming: None,
            source: None,
            tunnel: Some(Box::new(tunnel)),
        }
    }

    /// The tunnel that the client's connection becomes after this response.
    pub fn take_tunnel(&mut self) -> Option<Box<Tunnel>> {
        self.tunnel.take()
    }

    /// The body has ended.
    fn end(&mut self, context: &mut Context<'_>) {
        self.incoming = None;
        let Some(mut source) = self.source.take() else {
            return;
        };
        // Lets hyper finish the response.
        source.connection.poll(context);
        if source.connection.is_reusable() {
            source.ticket.upstream().keep(source.connection);
        }
    }
}

impl Body for ProxyBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let body = &mut *self;
        let (Some(incoming), Some(source)) = (&mut body.incoming, &mut body.source) else {
            return Poll::Ready(None);
        };
        let mut polled = Pin::new(&mut *incoming).poll_frame(context);
        if polled.is_pending() {
            source.connection.poll(context);
            polled = Pin::new(&mut *incoming).poll_frame(context);
        }
        match ready!(polled) {
            Some(Ok(frame)) => {
                if incoming.is_end_stream() {
                    body.end(context);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                source.stats.count_error(ErrorReason::Truncated);
                let request_id = source.request_id.to_str().unwrap_or_default();
                tracing::warn!(%error, request_id, "a response of the application broke off");
                body.incoming = None;
                body.source = None;
                Poll::Ready(Some(Err(io::Error::other(error))))
            }
            None => {
                body.end(context);
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let exact = || SizeHint::with_exact(0);
        self.incoming.as_ref().map_or_else(exact, Body::size_hint)
    }
}

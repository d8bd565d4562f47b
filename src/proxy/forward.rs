//! Forwards one request: waits for a worker, sends the request, sends it again if that is safe, and
//! returns the response.

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::ext::ReasonPhrase;
use hyper::http::{request, response};
use hyper::{Request, Response, StatusCode, Uri, Version};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::balancer::Balancer;
use super::connection::{Connection, SendFailure};
use super::error::ProxyError;
use super::headers::{
    Forwarded, RequestKind, is_event_stream, is_websocket_response, rewrite_request,
    rewrite_response, set_framing, set_one_length, set_websocket,
};
use super::request_body::{BoxError, Progress, ReadBody, RequestBody, Step};
use super::response_body::ProxyBody;
use super::stats::ProxyStats;
use super::trace::TraceIds;
use super::tunnel::Tunnel;
use super::upstream::{Ticket, Upstream};
use crate::config::LiveSettings;

/// How long a worker that cannot be reached is not tried again by the same request.
const CONNECT_RETRY_DELAY: Duration = Duration::from_millis(50);
/// How long a request that has failed on the only worker waits for a sign that the worker is gone.
const ONLY_WORKER_DELAY: Duration = Duration::from_millis(20);

/// Forwards requests to the workers of the application.
pub struct Proxy {
    balancer: Arc<Balancer>,
    /// Has `APP_TIMEOUT` and `APP_QUEUE_TIMEOUT`.
    live_settings: Arc<LiveSettings>,
    stats: Arc<ProxyStats>,
    trace_ids: TraceIds,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("balancer", &self.balancer)
            .finish_non_exhaustive()
    }
}

/// Limits of a request.
#[derive(Debug, Clone, Copy)]
struct Timeouts {
    /// From the end of the request to the headers of the response. Zero is none.
    response: Duration,
    /// Until a worker takes the request.
    queue: Duration,
}

/// Those of the settings' defaults.
const DEFAULT_TIMEOUTS: Timeouts = Timeouts {
    response: Duration::from_mins(1),
    queue: Duration::from_secs(5),
};

/// A request that can be sent.
struct Outgoing {
    head: request::Parts,
    body: OutgoingBody,
    kind: RequestKind,
}

enum OutgoingBody {
    Whole(Bytes),
    /// It can be sent only once.
    Long(Option<RequestBody>, Arc<Progress>),
}

impl Proxy {
    /// Forwards to the workers of `balancer`.
    #[must_use]
    pub fn new(balancer: Arc<Balancer>, live_settings: Arc<LiveSettings>) -> Arc<Self> {
        Arc::new(Self {
            balancer,
            live_settings,
            stats: Arc::default(),
            trace_ids: TraceIds::new(),
        })
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> &ProxyStats {
        &self.stats
    }

    /// Forwards a request. Dropping the future cancels it at the worker.
    ///
    /// # Errors
    ///
    /// There is no response to pass on.
    pub async fn forward<B>(
        &self,
        request: Request<B>,
        client: Forwarded<'_>,
    ) -> Result<Response<ProxyBody>, ProxyError>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let result = self.try_forward(request, &client).await;
        match &result {
            Ok(response) => self.stats.count_response(response.status()),
            Err(error) => {
                if let Some(reason) = error.reason() {
                    self.stats.count_error(reason);
                    let request_id = client.request_id.to_str().unwrap_or_default();
                    tracing::warn!(request_id, "{error}");
                }
            }
        }
        result
    }

    async fn try_forward<B>(
        &self,
        request: Request<B>,
        client: &Forwarded<'_>,
    ) -> Result<Response<ProxyBody>, ProxyError>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let mut request = self.prepare(request, client).await?;
        let timeouts = self.timeouts();
        let deadline = Instant::now() + timeouts.queue;
        let mut excluded = Vec::new();
        let mut failure = None;
        loop {
            let Some(ticket) = self.acquire(&mut excluded, deadline).await else {
                return Err(failure.unwrap_or(ProxyError::NoWorker(timeouts.queue)));
            };
            let is_fresh = failure.is_some() || request.needs_fresh_connection();
            let idle = (!is_fresh).then(|| ticket.upstream().take_idle());
            let mut connection = match idle.flatten() {
                Some(connection) => connection,
                None => match ticket.upstream().connect().await {
                    Ok(connection) => connection,
                    Err(error) => {
                        tracing::debug!(%error, upstream = ?ticket.upstream(), "cannot connect");
                        excluded.push(Arc::clone(ticket.upstream()));
                        continue;
                    }
                },
            };
            match request.send(&mut connection, timeouts.response).await {
                Ok(response) => {
                    let is_unfinished = request.is_unfinished();
                    return self
                        .respond(
                            response,
                            connection,
                            ticket,
                            request.kind,
                            is_unfinished,
                            client,
                        )
                        .await;
                }
                Err(None) => return Err(ProxyError::TimedOut(timeouts.response)),
                Err(Some(error)) if error.error.is_user() => {
                    return Err(ProxyError::ClientBody(describe(&error.error)));
                }
                Err(Some(error)) => {
                    let broken = ProxyError::Broken(describe(&error.error));
                    if failure.is_some() || !request.may_repeat(&error) {
                        return Err(broken);
                    }
                    failure = Some(broken);
                    self.stats.count_retry();
                    let upstream = Arc::clone(ticket.upstream());
                    drop((connection, ticket));
                    self.avoid(upstream, error.has_sent, &mut excluded).await;
                }
            }
        }
    }

    /// Reads a short body, and makes the request one for a worker.
    async fn prepare<B>(
        &self,
        request: Request<B>,
        client: &Forwarded<'_>,
    ) -> Result<Outgoing, ProxyError>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let (mut head, body) = request.into_parts();
        let has_body = !body.is_end_stream();
        let kind = rewrite_request(
            &mut head.headers,
            &head.method,
            head.version,
            has_body,
            client,
            &self.trace_ids,
        );
        head.version = Version::HTTP_11;
        head.extensions.clear();
        if head.uri.scheme().is_some() {
            let target = head.uri.into_parts().path_and_query;
            head.uri = target.map_or_else(|| Uri::from_static("/"), Uri::from);
        }
        let body = ReadBody::read(body).await;
        let body = body.map_err(|error| ProxyError::ClientBody(describe(&*error)))?;
        let (length, body) = match body {
            ReadBody::Whole(bytes) => (Some(bytes.len() as u64), OutgoingBody::Whole(bytes)),
            ReadBody::Long(body, progress) => {
                let length = body.size_hint().exact();
                (length, OutgoingBody::Long(Some(body), progress))
            }
        };
        set_framing(&mut head.headers, length);
        Ok(Outgoing { head, body, kind })
    }

    fn timeouts(&self) -> Timeouts {
        let settings = self.live_settings.settings();
        let app = settings.app.as_ref();
        Timeouts {
            response: app.map_or(DEFAULT_TIMEOUTS.response, |app| app.timeout),
            queue: app.map_or(DEFAULT_TIMEOUTS.queue, |app| app.queue_timeout),
        }
    }

    /// Waits for a worker. Workers in `excluded` get another chance after a moment.
    async fn acquire(
        &self,
        excluded: &mut Vec<Arc<Upstream>>,
        deadline: Instant,
    ) -> Option<Ticket> {
        loop {
            let changed = self.balancer.notified();
            if let Some(ticket) = self.balancer.pick(excluded) {
                return Some(ticket);
            }
            let now = Instant::now();
            if now >= deadline {
                return None;
            }
            let until = if excluded.is_empty() {
                deadline
            } else {
                deadline.min(now + CONNECT_RETRY_DELAY)
            };
            let _ = timeout_at(until, changed).await;
            excluded.clear();
        }
    }

    /// Prefers other workers to one that has failed. If there is none, and the worker may have died,
    /// waits a moment for its removal.
    async fn avoid(
        &self,
        upstream: Arc<Upstream>,
        has_sent: bool,
        excluded: &mut Vec<Arc<Upstream>>,
    ) {
        let changed = self.balancer.notified();
        if self.balancer.has_other(&upstream) {
            excluded.push(upstream);
        } else if has_sent {
            let until = Instant::now() + ONLY_WORKER_DELAY;
            let _ = timeout_at(until, changed).await;
        }
    }

    async fn respond(
        &self,
        response: Response<Incoming>,
        mut connection: Box<Connection>,
        mut ticket: Ticket,
        kind: RequestKind,
        is_unfinished: bool,
        client: &Forwarded<'_>,
    ) -> Result<Response<ProxyBody>, ProxyError> {
        let (mut head, body) = response.into_parts();
        keep_only_reason(&mut head);
        let begins_websocket = is_websocket_response(head.status, &head.headers);
        let broken = |text: &str| ProxyError::Broken(text.to_owned());
        rewrite_response(&mut head.headers, kind).map_err(broken)?;
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            if !begins_websocket || !kind.is_upgrade {
                return Err(broken("it changes to a protocol without a request for it"));
            }
            set_websocket(&mut head.headers);
            ticket.set_stream();
            let upgraded = connection.into_upgraded().await;
            let (stream, received) = upgraded.ok_or_else(|| broken("the connection has ended"))?;
            let tunnel = Tunnel::new(stream, received, ticket);
            return Ok(Response::from_parts(head, ProxyBody::tunnel(tunnel)));
        }
        let length = body.size_hint().exact().filter(|_| !body.is_end_stream());
        set_one_length(&mut head.headers, length);
        if is_event_stream(&head.headers) {
            ticket.set_stream();
        }
        if is_unfinished {
            connection.drive_in_task();
        }
        let stats = Arc::clone(&self.stats);
        let id = client.request_id.clone();
        let mut body = ProxyBody::new(body, connection, ticket, stats, id);
        poll_fn(|context| {
            body.end_if_empty(context);
            Poll::Ready(())
        })
        .await;
        Ok(Response::from_parts(head, body))
    }
}

impl Outgoing {
    /// A long body cannot be sent again, and a WebSocket takes its connection away.
    fn needs_fresh_connection(&self) -> bool {
        self.kind.is_upgrade || matches!(self.body, OutgoingBody::Long(..))
    }

    /// Whether the client still sends.
    fn is_unfinished(&self) -> bool {
        match &self.body {
            OutgoingBody::Whole(_) => false,
            OutgoingBody::Long(_, progress) => !matches!(progress.step(), Step::Ended(_)),
        }
    }

    /// Whether a request that failed can be sent again (RFC 9110, section 9.2.2).
    fn may_repeat(&self, failure: &SendFailure) -> bool {
        let is_whole = matches!(self.body, OutgoingBody::Whole(_));
        let is_idempotent = self.head.method.is_idempotent();
        is_whole && (!failure.has_sent || is_idempotent && !failure.has_received)
    }

    /// Sends the request, and waits for the headers of the response. The error is `None` if they do
    /// not come in time.
    async fn send(
        &mut self,
        connection: &mut Connection,
        timeout: Duration,
    ) -> Result<Response<Incoming>, Option<SendFailure>> {
        let head = self.head.clone();
        let (body, progress) = match &mut self.body {
            OutgoingBody::Whole(bytes) => (RequestBody::buffered(bytes.clone()), None),
            OutgoingBody::Long(body, progress) => {
                let body = body.take().unwrap_or_else(RequestBody::empty);
                (body, Some(&*progress))
            }
        };
        let response = connection.send(Request::from_parts(head, body));
        if timeout.is_zero() {
            return response.await.map_err(Some);
        }
        let mut response = pin!(response);
        let mut timer = pin!(sleep(timeout));
        loop {
            tokio::select! {
                biased;
                response = &mut response => return response.map_err(Some),
                () = &mut timer => {}
            }
            let now = Instant::now();
            let since = match progress.map(|progress| progress.step()) {
                None => return Err(None),
                Some(Step::AwaitsClient) => now,
                Some(Step::AwaitsWorker(since) | Step::Ended(since)) => since,
            };
            if since + timeout <= now {
                return Err(None);
            }
            timer.set(sleep_until(since + timeout));
        }
    }
}

/// Removes what hyper attaches to a response, but the reason phrase of the worker.
fn keep_only_reason(head: &mut response::Parts) {
    head.version = Version::HTTP_11;
    let reason = head.extensions.remove::<ReasonPhrase>();
    head.extensions.clear();
    if let Some(reason) = reason {
        head.extensions.insert(reason);
    }
}

/// The text of an error with its causes.
fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

//! What happens to every request on either port: it is counted, named, guarded, answered by poem, and logged.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http_body_util::combinators::BoxBody;
use http_body_util::{Either, Full};
use hyper::Method;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::http::uri::Scheme;
use poem::endpoint::BoxEndpoint;
use poem::http::StatusCode;
use poem::web::{LocalAddr, RemoteAddr};
use poem::{Endpoint, Response};

use super::auth::{AuditRecord, AuditedActions};
use super::clients::{ConnectionPool, LimitKind};
use super::log_stream::Handover;
use super::metrics::{RequestSeries, RouteMetrics};
use super::problem::{ProblemDetail, problem_from_error, problem_response};
use super::progress::{ConnectionState, TrackedBody};
use super::request_body::LimitedBody;
use super::shutdown::Shutdown;
use super::{security_headers, site, unread};

pub(super) static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// A longer id of a client is not taken over.
const MAX_REQUEST_ID_LEN: usize = 128;

/// The answer to `GET /health`, which is asked more often than anything else: it is made before, and skips the
/// router. Through the router, and with a timer for each request, it had 0.77 of the throughput of bare hyper; without
/// both it has all of it (`make bench`).
pub(super) type HealthHandler = Box<dyn Fn() -> (StatusCode, Bytes) + Send + Sync>;

/// `Allow` by path.
type AllowByPath = HashMap<String, HeaderValue>;

type Body = Either<Full<Bytes>, BoxBody<Bytes, std::io::Error>>;

/// A router with what surrounds it.
pub struct Service {
    name: &'static str,
    endpoint: BoxEndpoint<'static>,
    /// Made at the first wrong method.
    allow: LazyLock<AllowByPath, Box<dyn FnOnce() -> AllowByPath + Send>>,
    /// Set for the admin server: where it listens.
    admin_address: Option<IpAddr>,
    health: Option<HealthHandler>,
    /// Set for the admin server.
    audited_actions: AuditedActions,
    clients: Arc<ConnectionPool>,
    shutdown: Shutdown,
    routes: RouteMetrics,
    request_ids: RequestIds,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Service {
    pub(super) fn new(
        name: &'static str,
        endpoint: BoxEndpoint<'static>,
        allow: impl FnOnce() -> AllowByPath + Send + 'static,
        clients: Arc<ConnectionPool>,
        routes: RouteMetrics,
        shutdown: Shutdown,
    ) -> Self {
        Self {
            name,
            endpoint,
            allow: LazyLock::new(Box::new(allow)),
            admin_address: None,
            audited_actions: AuditedActions::default(),
            health: None,
            clients,
            shutdown,
            routes,
            request_ids: RequestIds::new(),
        }
    }

    /// Guards against pages of other sites, for a server that is bound to `address`.
    pub(super) fn with_origin_check(self, address: IpAddr) -> Self {
        Self {
            admin_address: Some(address),
            ..self
        }
    }

    /// Writes an audit record for each request that asks for one of these changes.
    pub(super) fn with_audit(self, audited_actions: AuditedActions) -> Self {
        Self {
            audited_actions,
            ..self
        }
    }

    /// Answers `GET /health` without the router.
    pub(super) fn with_health_handler(self, probe: HealthHandler) -> Self {
        Self {
            health: Some(probe),
            ..self
        }
    }

    /// `public` or `admin`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Whether the answer with this request id is this service's, to a request that brought none.
    pub(super) fn is_own_request_id(&self, request_id: &HeaderValue) -> bool {
        let id = request_id.to_str().unwrap_or_default();
        id.strip_prefix(&*self.request_ids.prefix)
            .is_some_and(|rest| rest.starts_with('-'))
    }

    pub(super) fn connections(&self) -> &ConnectionPool {
        &self.clients
    }

    /// The answer to a client that has sent no request, or not all of one.
    pub(super) fn raw_error(&self, status: StatusCode, peer: SocketAddr) -> Bytes {
        let limits = &self.clients.limits;
        let detail = match status {
            StatusCode::REQUEST_TIMEOUT => {
                self.clients.record_limit_hit(LimitKind::HeaderTimeout);
                format!(
                    "the head of the request did not come within {:?}",
                    limits.header_timeout
                )
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                self.clients.record_limit_hit(LimitKind::Refused);
                "there is no room for another connection, and all are busy: try again".into()
            }
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
                self.clients.record_limit_hit(LimitKind::HeaderSize);
                format!(
                    "the head of a request may have {} bytes and {MAX_HEADERS} fields",
                    limits.max_header_size
                )
            }
            StatusCode::URI_TOO_LONG => {
                self.clients.record_limit_hit(LimitKind::HeaderSize);
                format!("the address of a request may have {MAX_URI} bytes")
            }
            _ => "this is not a request of HTTP/1.1 (RFC 9112)".into(),
        };
        let access = AccessRecord {
            server: self.name,
            series: self.routes.unparsed(),
            request_id: self.request_ids.next(),
            started: Instant::now(),
            peer,
        };
        access.record(NO_REQUEST, NO_REQUEST, status.as_u16());
        let id = access.request_id.to_str().unwrap_or_default();
        let retry_after = (status == StatusCode::SERVICE_UNAVAILABLE).then_some(1);
        unread::error_response(status, &detail, id, retry_after)
    }

    pub(super) async fn call(
        &self,
        request: hyper::Request<Incoming>,
        peer: SocketAddr,
        local: SocketAddr,
        progress: &Arc<ConnectionState>,
    ) -> hyper::Response<TrackedBody<Body>> {
        let started = Instant::now();
        let counted = self.clients.count_request();
        let in_flight = progress.start_request();
        let request_id = self.request_ids.for_request(&request);
        let access = AccessRecord {
            server: self.name,
            series: self.routes.series(request.method(), request.uri().path()),
            request_id,
            started,
            peer,
        };

        let mut answer: hyper::Response<Body> = match &self.health {
            Some(probe)
                if request.method() == Method::GET && request.uri().path() == HEALTH_PATH =>
            {
                let (status, body) = probe();
                access.record("GET", HEALTH_PATH, status.as_u16());
                let mut answer = hyper::Response::new(Either::Left(Full::new(body)));
                *answer.status_mut() = status;
                answer
                    .headers_mut()
                    .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                answer
            }
            _ => {
                let takes_stream = request.method() == Method::GET;
                let version = request.version();
                let uri = request.uri().clone();
                let audit = self.audit(&request, peer, &access);
                let mut pending = PendingRequest {
                    access: &access,
                    shutdown: &self.shutdown,
                    audit: audit.as_deref(),
                    method: request.method().clone(),
                    path: uri.path(),
                    status: None,
                };
                let mut answer = match self.reject_early(&request, progress) {
                    Some(refusal) => refusal,
                    None => {
                        self.route(request, peer, local, uri.path(), audit.clone(), progress)
                            .await
                    }
                };
                pending.status = Some(answer.status());
                let detail = answer.extensions_mut().remove::<ProblemDetail>();
                if let Some(audit) = &audit {
                    let reason = detail.map_or_else(String::new, |detail| detail.0);
                    audit.responded(answer.status(), &reason);
                }
                let mut answer = hyper::Response::from(answer).map(Either::Right);
                security_headers::add(answer.headers_mut(), self.admin_address.is_some());
                let stream = answer.extensions_mut().remove::<Handover>();
                if let Some(stream) = stream.and_then(|handover| handover.take(version))
                    && takes_stream
                {
                    in_flight.detach_body(stream);
                }
                answer
            }
        };

        let headers = answer.headers_mut();
        headers.insert(REQUEST_ID.clone(), access.request_id);
        if self.shutdown.has_started() || progress.lingers() || progress.is_evicted() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        drop(counted);
        answer.map(|body| in_flight.track_body(body))
    }

    /// Set for a request that asks for a change.
    fn audit(
        &self,
        request: &hyper::Request<Incoming>,
        peer: SocketAddr,
        access: &AccessRecord<'_>,
    ) -> Option<Arc<AuditRecord>> {
        let action = self
            .audited_actions
            .get(request.method(), request.uri().path())?;
        let request_id = access.request_id.to_str().unwrap_or_default();
        Some(Arc::new(AuditRecord::new(action, peer, request_id)))
    }

    /// The answer to a request that nobody need look into.
    fn reject_early(
        &self,
        request: &hyper::Request<Incoming>,
        progress: &ConnectionState,
    ) -> Option<Response> {
        if let Some(bound) = self.admin_address
            && let Some(reason) = site::rejection_reason(request.method(), request.headers(), bound)
        {
            return Some(problem_response(StatusCode::FORBIDDEN, reason));
        }
        let length = request.headers().get(CONTENT_LENGTH)?.to_str().ok()?;
        let is_too_large = length
            .parse::<usize>()
            .is_ok_and(|length| length > self.clients.limits.max_body_size);
        is_too_large.then(|| self.body_limit_response(LimitKind::BodySize, progress))
    }

    /// The answer to a request whose body ran into a limit.
    fn body_limit_response(&self, limit: LimitKind, progress: &ConnectionState) -> Response {
        self.clients.record_limit_hit(limit);
        progress.set_lingers();
        let limits = &self.clients.limits;
        let (status, detail) = if limit == LimitKind::BodyTimeout {
            let detail = format!("the body did not come within {:?}", limits.body_timeout);
            (StatusCode::REQUEST_TIMEOUT, detail)
        } else {
            let detail = format!("a body may have {} bytes", limits.max_body_size);
            (StatusCode::PAYLOAD_TOO_LARGE, detail)
        };
        problem_response(status, &detail)
    }

    async fn route(
        &self,
        request: hyper::Request<Incoming>,
        peer: SocketAddr,
        local: SocketAddr,
        path: &str,
        audit: Option<Arc<AuditRecord>>,
        progress: &Arc<ConnectionState>,
    ) -> Response {
        let mut request = poem::Request::from((
            request,
            LocalAddr(local.into()),
            RemoteAddr(peer.into()),
            Scheme::HTTP,
        ));
        if let Some(audit) = audit {
            request.extensions_mut().insert(audit);
        }
        let body = request.take_body().into();
        request.set_body(LimitedBody::wrap(body, &self.clients.limits, progress));
        let answer = self.call_router(request, path).await;
        match progress.body_limit_hit() {
            // Whoever could do without the rest of the body may say so.
            Some(limit) if !answer.status().is_success() => {
                self.body_limit_response(limit, progress)
            }
            _ => answer,
        }
    }

    async fn call_router(&self, request: poem::Request, path: &str) -> Response {
        // A panic was logged by the hook; it ends the request, not the connection.
        match AssertUnwindSafe(self.endpoint.call(request))
            .catch_unwind()
            .await
        {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => problem_from_error(error, path, || self.allow.get(path).cloned()),
            Err(_) => problem_response(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the service failed on this request; its log says where",
            ),
        }
    }
}

const HEALTH_PATH: &str = "/health";
/// hyper's own limits: fields of a head, and bytes of the address in it.
const MAX_HEADERS: usize = 100;
const MAX_URI: usize = 65_534;

/// What nginx logs for a client that is not answered by its own doing.
const CLIENT_CLOSED_REQUEST: u16 = 499;
/// Method and path of what was no request.
const NO_REQUEST: &str = "-";
/// A method or a path is logged up to here, in bytes: what does not fit the log is rotated away, and anybody may send long ones.
const MAX_LOGGED_LEN: usize = 1024;

struct AccessRecord<'a> {
    server: &'static str,
    series: &'a RequestSeries,
    request_id: HeaderValue,
    started: Instant,
    peer: SocketAddr,
}

/// Counts and logs the request when it is dropped: with its status, or as one that was cut off.
struct PendingRequest<'a> {
    access: &'a AccessRecord<'a>,
    shutdown: &'a Shutdown,
    audit: Option<&'a AuditRecord>,
    method: Method,
    path: &'a str,
    status: Option<StatusCode>,
}

impl Drop for PendingRequest<'_> {
    fn drop(&mut self) {
        let status = self
            .status
            .map_or_else(|| self.record_abort(), |status| status.as_u16());
        self.access.record(self.method.as_str(), self.path, status);
    }
}

impl PendingRequest<'_> {
    /// There will be no answer: because a stop's deadline is over, or because the client does not take or send what it began.
    fn record_abort(&self) -> u16 {
        let (status, reason) = if self.shutdown.is_forced() {
            let status = StatusCode::SERVICE_UNAVAILABLE.as_u16();
            (
                status,
                "the deadline of the stop was over before there was an answer",
            )
        } else {
            (CLIENT_CLOSED_REQUEST, "the client did not go on with it")
        };
        if let Some(audit) = self.audit {
            audit.aborted(status, reason);
        }
        status
    }
}

impl AccessRecord<'_> {
    /// Counts it, and logs one event: probes at DEBUG, the rest at INFO. The query is left out: it may hold a secret.
    fn record(&self, method: &str, path: &str, status: u16) {
        let took = self.started.elapsed();
        self.series.observe(status, took);
        let (method, path) = (truncate_for_log(method), truncate_for_log(path));
        macro_rules! event {
            ($level:ident) => {
                tracing::$level!(
                    target: "access",
                    server = self.server,
                    %method,
                    path = &*path,
                    status,
                    duration_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
                    peer = %self.peer,
                    request_id = self.request_id.to_str().unwrap_or_default(),
                )
            };
        }
        let is_probe = path
            .strip_prefix(HEALTH_PATH)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if is_probe {
            event!(debug);
        } else {
            event!(info);
        }
    }
}

/// As much of it as is logged, and how long it is if that is not all.
fn truncate_for_log(text: &str) -> Cow<'_, str> {
    if text.len() <= MAX_LOGGED_LEN {
        return text.into();
    }
    let kept = &text[..text.floor_char_boundary(MAX_LOGGED_LEN)];
    format!("{kept}… ({} bytes)", text.len()).into()
}

/// Names for requests that bring none: unlike those of another run, and counted up.
struct RequestIds {
    prefix: String,
    count: AtomicU64,
}

impl RequestIds {
    fn new() -> Self {
        let run = uuid::Uuid::new_v4().simple().to_string();
        Self {
            prefix: run[..8].to_owned(),
            count: AtomicU64::new(1),
        }
    }

    /// The client's own id if it is harmless in a log, or a new one.
    fn for_request(&self, request: &hyper::Request<Incoming>) -> HeaderValue {
        if let Some(given) = request.headers().get(&REQUEST_ID)
            && (1..=MAX_REQUEST_ID_LEN).contains(&given.len())
            && given
                .as_bytes()
                .iter()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.:+/=".contains(b))
        {
            return given.clone();
        }
        self.next()
    }

    /// Made by hand for each request: by the formatter, with its allocations, it was a thirtieth of what `/health` costs.
    fn next(&self) -> HeaderValue {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let width = (u64::BITS - number.leading_zeros()).div_ceil(4).max(8);
        let mut id = Vec::with_capacity(self.prefix.len() + 1 + width as usize);
        id.extend_from_slice(self.prefix.as_bytes());
        id.push(b'-');
        id.extend(
            (0..width)
                .rev()
                .map(|digit| DIGITS[(number >> (4 * digit) & 0xf) as usize]),
        );
        HeaderValue::from_maybe_shared(Bytes::from(id))
            .unwrap_or_else(|_| HeaderValue::from_static("-"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_counted_in_hexadecimal() {
        let ids = RequestIds::new();
        for (number, expected) in [
            (1, "00000001"),
            (0xfedc_ba98, "fedcba98"),
            (0x1_0000_0000, "100000000"),
            (u64::MAX, "ffffffffffffffff"),
        ] {
            ids.count.store(number, Ordering::Relaxed);
            let id = ids.next();
            assert_eq!(id, format!("{}-{expected}", ids.prefix));
        }
    }
}

//! Handles every request of either port: counts it, gives it an id, checks it, routes it through
//! poem, and logs it.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http_body_util::combinators::BoxBody;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::header::{
    ALLOW, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION,
};
use hyper::http::uri::Scheme;
use hyper::{Method, Uri};
use poem::endpoint::BoxEndpoint;
use poem::http::StatusCode;
use poem::web::{LocalAddr, RemoteAddr};
use poem::{Endpoint, Response};

use super::access_log::{AccessRecord, HEALTH_PATH, PendingRequest, UsedSession};
use super::audit::{AuditRecord, AuditedActions};
use super::body::{LimitedBody, awaits_continue, drain_body, drain_request};
use super::forwarded::{ForwardedClient, forwarded_client};
use super::headers::ApplicationResponse;
use super::origin::OwnOrigins;
use super::problem::{ProblemDetail, problem_from_error, problem_response};
use super::refusal_page::refusal_page;
use super::request_id::{REQUEST_ID, RequestIds, client_request_id};
use super::validity::{self, InvalidRequest};
use super::{headers, origin, raw_response};
use crate::audit::AuditTrail;
use crate::config::LiveSettings;
use crate::server::limits::LimitKind;
use crate::server::metrics::RouteMetrics;
use crate::server::path_template;
use crate::server::pool::{
    ClientSocket, ConnectionPool, ConnectionState, DetachedResponse, TrackedBody,
};
use crate::server::shutdown::Shutdown;

/// hyper's own limits: fields of the headers, and bytes of the request target.
const MAX_HEADERS: usize = 100;
const MAX_URI: usize = 65_534;

/// Responds to `GET /health` without the router, because load balancers request nothing as often.
/// With the router and a timer for each request it had 0.77 of the throughput of bare hyper;
/// without both it has all of it (`make bench`).
pub type HealthHandler = Box<dyn Fn() -> (StatusCode, Bytes) + Send + Sync>;

/// The `Allow` header of each path.
type AllowByPath = HashMap<String, HeaderValue>;

type Body = Either<Full<Bytes>, BoxBody<Bytes, std::io::Error>>;

/// The router of one server, and what surrounds it.
pub struct Service {
    name: &'static str,
    endpoint: BoxEndpoint<'static>,
    /// Built at the first request with a wrong method.
    allow: LazyLock<AllowByPath, Box<dyn FnOnce() -> AllowByPath + Send>>,
    /// Set for the admin server.
    own_origins: Option<OwnOrigins>,
    /// Whose `TRUSTED_PROXIES` are active. `None` trusts none.
    live_settings: Option<Arc<LiveSettings>>,
    /// Set for the admin server.
    audited_actions: AuditedActions,
    /// Set for the admin server.
    audit: Option<Arc<AuditTrail>>,
    health: Option<HealthHandler>,
    pool: Arc<ConnectionPool>,
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
    pub(crate) fn new(
        name: &'static str,
        endpoint: BoxEndpoint<'static>,
        allow: impl FnOnce() -> AllowByPath + Send + 'static,
        pool: Arc<ConnectionPool>,
        routes: RouteMetrics,
        shutdown: Shutdown,
    ) -> Self {
        Self {
            name,
            endpoint,
            allow: LazyLock::new(Box::new(allow)),
            own_origins: None,
            live_settings: None,
            audited_actions: AuditedActions::default(),
            audit: None,
            health: None,
            pool,
            shutdown,
            routes,
            request_ids: RequestIds::new(),
        }
    }

    /// Rejects requests from pages of other origins than these.
    pub(crate) fn with_origin_check(self, own_origins: OwnOrigins) -> Self {
        Self {
            own_origins: Some(own_origins),
            ..self
        }
    }

    /// Believes the `TRUSTED_PROXIES` of these settings.
    pub(crate) fn with_live_settings(self, live_settings: Option<Arc<LiveSettings>>) -> Self {
        Self {
            live_settings,
            ..self
        }
    }

    /// Writes an audit record for each request for one of these changes.
    pub(crate) fn with_audit(
        self,
        audited_actions: AuditedActions,
        trail: Arc<AuditTrail>,
    ) -> Self {
        Self {
            audited_actions,
            audit: Some(trail),
            ..self
        }
    }

    /// Responds to `GET /health` without the router.
    pub(crate) fn with_health_handler(self, handler: HealthHandler) -> Self {
        Self {
            health: Some(handler),
            ..self
        }
    }

    /// `public` or `admin`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Whether this service has generated the request id, and not a service of another process.
    pub(crate) fn is_own_request_id(&self, id: &HeaderValue) -> bool {
        self.request_ids.is_own(id)
    }

    pub(crate) fn pool(&self) -> &Arc<ConnectionPool> {
        &self.pool
    }

    /// The problem document that replaces hyper's own response to input that is no valid request.
    /// `None` if `response` is one of ours.
    pub(crate) fn replace_hyper_error(&self, response: &[u8], peer: SocketAddr) -> Option<Bytes> {
        let status = raw_response::hyper_error_status(response)?;
        Some(self.raw_error(status, peer))
    }

    /// A whole response to a client that has sent no request, or part of one, or an invalid one.
    pub(crate) fn raw_error(&self, status: StatusCode, peer: SocketAddr) -> Bytes {
        let limits = &self.pool.limits;
        let (limit, detail) = match status {
            StatusCode::REQUEST_TIMEOUT => (
                Some(LimitKind::HeaderTimeout),
                format!(
                    "the request headers did not arrive within {:?} (HEADER_TIMEOUT)",
                    limits.header_timeout
                ),
            ),
            StatusCode::SERVICE_UNAVAILABLE => (
                Some(LimitKind::Refused),
                "connection limit reached, and all connections are busy: try again".into(),
            ),
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => (
                Some(LimitKind::HeaderSize),
                format!(
                    "the request headers are too large: at most {} bytes (MAX_HEADER_SIZE) and {MAX_HEADERS} headers",
                    limits.max_header_size
                ),
            ),
            StatusCode::URI_TOO_LONG => (
                Some(LimitKind::HeaderSize),
                format!("the request URI is too long: at most {MAX_URI} bytes"),
            ),
            _ => (None, "invalid HTTP/1.1 request (RFC 9112)".into()),
        };
        if let Some(limit) = limit {
            self.pool.stats.record_limit_hit(limit);
        }
        let access = AccessRecord {
            server: self.name,
            series: self.routes.unparsed(),
            request_id: self.request_ids.next(),
            client_request_id: None,
            started: Instant::now(),
            peer,
            client: None,
            session: None,
        };
        access.record_invalid(status);
        let id = access.request_id.to_str().unwrap_or_default();
        let retry_after = (status == StatusCode::SERVICE_UNAVAILABLE).then_some(1);
        raw_response::error_response(status, &detail, id, retry_after)
    }

    /// Responds to a request.
    pub(crate) async fn call(
        &self,
        mut request: hyper::Request<Incoming>,
        peer: SocketAddr,
        local: SocketAddr,
        state: &Arc<ConnectionState>,
        client: &ClientSocket,
    ) -> hyper::Response<TrackedBody<Body>> {
        let started = Instant::now();
        let in_flight = self.pool.stats.count_request();
        let guard = state.start_request();
        let mut access = AccessRecord {
            server: self.name,
            series: self.routes.series(request.method(), request.uri().path()),
            request_id: self.request_ids.next(),
            client_request_id: client_request_id(request.headers()),
            started,
            peer,
            client: None,
            session: self.own_origins.as_ref().map(|_| UsedSession::default()),
        };
        let is_health_check =
            request.method() == Method::GET && request.uri().path() == HEALTH_PATH;
        let validity = validity::check(&mut request);
        let mut response = match &self.health {
            Some(handler) if is_health_check && validity.is_ok() => {
                let (status, body) = handler();
                access.record("GET", HEALTH_PATH, status.as_u16());
                let mut response = hyper::Response::new(Either::Left(Full::new(body)));
                *response.status_mut() = status;
                let headers = response.headers_mut();
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                headers::set_no_store(headers);
                drain_request(request, state).await;
                response
            }
            _ => {
                self.believe_proxy(request.headers(), &mut access);
                let can_detach = request.method() == Method::GET;
                let version = request.version();
                let response = self
                    .call_logged(request, validity, local, &access, state, client)
                    .await;
                let mut response = hyper::Response::from(response).map(Either::Right);
                if response
                    .extensions_mut()
                    .remove::<ApplicationResponse>()
                    .is_none()
                {
                    headers::set_no_store(response.headers_mut());
                }
                headers::add_security_headers(response.headers_mut(), self.own_origins.is_some());
                let detached = response.extensions_mut().remove::<DetachedResponse>();
                if let Some(body) = detached.and_then(|detached| detached.take(version))
                    && can_detach
                {
                    guard.detach_body(body);
                }
                response
            }
        };

        let headers = response.headers_mut();
        headers.insert(REQUEST_ID.clone(), access.request_id);
        if self.shutdown.has_started() || state.closes_after_response() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        drop(in_flight);
        response.map(|body| guard.track_body(body))
    }

    /// Responds through the router. The request is logged and audited, also if it is aborted.
    async fn call_logged(
        &self,
        request: hyper::Request<Incoming>,
        validity: Result<(), InvalidRequest>,
        local: SocketAddr,
        access: &AccessRecord<'_>,
        state: &Arc<ConnectionState>,
        client: &ClientSocket,
    ) -> Response {
        let uri = request.uri().clone();
        let audit = self.start_audit(&request, access);
        let mut pending = PendingRequest {
            access,
            shutdown: &self.shutdown,
            audit: audit.as_deref(),
            method: request.method().clone(),
            path: uri.path(),
            status: None,
        };
        let early = match validity {
            Ok(()) => self.respond_early(&request, state),
            Err(invalid) => {
                state.set_lingers();
                Some(problem_response(invalid.status, invalid.detail))
            }
        };
        let mut response = if let Some(response) = early {
            drain_request(request, state).await;
            response
        } else {
            let mut request = poem::Request::from((
                request,
                LocalAddr(local.into()),
                RemoteAddr(access.peer.into()),
                Scheme::HTTP,
            ));
            let extensions = request.extensions_mut();
            extensions.insert(client.clone());
            if let Some(client) = access.client {
                extensions.insert(ForwardedClient(client));
            }
            if let Some(session) = &access.session {
                extensions.insert(session.clone());
            }
            if let Some(audit) = &audit {
                extensions.insert(Arc::clone(audit));
            }
            self.route(request, &uri, state).await
        };
        pending.status = Some(response.status());
        let detail = response.extensions_mut().remove::<ProblemDetail>();
        if let Some(audit) = &audit {
            let reason = detail.map_or_else(String::new, |detail| detail.0);
            audit.responded(response.status(), &reason);
        }
        response
    }

    /// Takes the client and the request id from a trusted proxy.
    fn believe_proxy(&self, headers: &HeaderMap, access: &mut AccessRecord<'_>) {
        let Some(live_settings) = &self.live_settings else {
            return;
        };
        let trusted = &live_settings.settings().trusted_proxies;
        if trusted.contains(access.peer.ip()) {
            access.client = forwarded_client(headers, trusted);
            if let Some(id) = access.client_request_id.take() {
                access.request_id = id;
            }
        }
    }

    /// The audit record of a request that changes something.
    fn start_audit(
        &self,
        request: &hyper::Request<Incoming>,
        access: &AccessRecord<'_>,
    ) -> Option<Arc<AuditRecord>> {
        let action = self
            .audited_actions
            .get(request.method(), request.uri().path())?;
        let trail = Arc::clone(self.audit.as_ref()?);
        Some(Arc::new(AuditRecord::new(
            trail,
            action,
            (access.peer, access.client),
            &access.request_id,
            access.client_request_id.as_ref(),
        )))
    }

    /// The response to a request that its headers are enough to reject or to redirect.
    fn respond_early(
        &self,
        request: &hyper::Request<Incoming>,
        state: &ConnectionState,
    ) -> Option<Response> {
        if let Some(own_origins) = &self.own_origins {
            let (method, headers) = (request.method(), request.headers());
            if let Some(reason) =
                own_origins.rejection_reason(method, request.uri().path(), headers)
            {
                let is_page = origin::is_page_request(method, headers);
                return Some(if is_page {
                    refusal_page(&reason)
                } else {
                    problem_response(StatusCode::FORBIDDEN, &reason)
                });
            }
            let address = own_origins.numeric_address(method, request.uri(), headers);
            if let Some(address) = address {
                let redirect = Response::builder()
                    .status(StatusCode::TEMPORARY_REDIRECT)
                    .header(LOCATION, address);
                return Some(redirect.finish());
            }
        }
        if let Some(response) = respond_without_path(request) {
            return Some(response);
        }
        let length = request.headers().get(CONTENT_LENGTH)?.to_str().ok()?;
        let is_too_large = length
            .parse::<usize>()
            .is_ok_and(|length| length > self.pool.limits.max_body_size);
        is_too_large.then(|| self.body_limit_response(LimitKind::BodySize, state))
    }

    /// The response to a request whose body exceeded a limit.
    fn body_limit_response(&self, limit: LimitKind, state: &ConnectionState) -> Response {
        self.pool.stats.record_limit_hit(limit);
        state.set_lingers();
        let limits = &self.pool.limits;
        let (status, detail) = if limit == LimitKind::BodyTimeout {
            let detail = format!(
                "the request body did not arrive within {:?} (BODY_TIMEOUT)",
                limits.body_timeout
            );
            (StatusCode::REQUEST_TIMEOUT, detail)
        } else {
            let detail = format!(
                "the request body is too large: at most {} bytes (MAX_BODY_SIZE)",
                limits.max_body_size
            );
            (StatusCode::PAYLOAD_TOO_LARGE, detail)
        };
        problem_response(status, &detail)
    }

    async fn route(
        &self,
        mut request: poem::Request,
        uri: &Uri,
        state: &Arc<ConnectionState>,
    ) -> Response {
        let awaits_continue = awaits_continue(request.headers());
        let body = request.take_body().into();
        let (body, unread_body) = LimitedBody::wrap(body, &self.pool.limits, state);
        request.set_body(body);
        let response = self.call_router(request, uri).await;
        if let Some(body) = unread_body.take() {
            drain_body(body, awaits_continue, state).await;
        }
        match state.body_limit_hit() {
            // A handler that does not need the rest of the body may succeed.
            Some(limit) if !response.status().is_success() => {
                self.body_limit_response(limit, state)
            }
            _ => response,
        }
    }

    fn allowed_methods(&self, path: &str) -> Option<HeaderValue> {
        let template = path_template::find(self.allow.keys(), path)?;
        self.allow.get(template).cloned()
    }

    /// The redirect from a path with `/` at its end to the known path without. It is relative,
    /// because a proxy may have removed a prefix.
    fn redirect_without_slash(&self, uri: &Uri) -> Option<Response> {
        let path = uri.path().strip_suffix('/')?;
        path_template::find(self.allow.keys(), path)?;
        let (_, name) = path.rsplit_once('/').filter(|(_, name)| !name.is_empty())?;
        let query = uri.query().map_or_else(String::new, |it| format!("?{it}"));
        let redirect = Response::builder()
            .status(StatusCode::PERMANENT_REDIRECT)
            .header(LOCATION, format!("../{name}{query}"));
        Some(redirect.finish())
    }

    async fn call_router(&self, request: poem::Request, uri: &Uri) -> Response {
        // The panic hook has logged a panic. It ends the request, but not the connection.
        match AssertUnwindSafe(self.endpoint.call(request))
            .catch_unwind()
            .await
        {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                let is_unknown = error.status() == StatusCode::NOT_FOUND;
                let redirect = is_unknown.then(|| self.redirect_without_slash(uri));
                redirect.flatten().unwrap_or_else(|| {
                    problem_from_error(error, uri.path(), || self.allowed_methods(uri.path()))
                })
            }
            Err(_) => problem_response(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal error: see the log of the daemon",
            ),
        }
    }
}

/// The response to a request whose target is no path: `OPTIONS *`, which checks that the server
/// responds (RFC 9110, section 9.3.7), and `CONNECT`.
fn respond_without_path(request: &hyper::Request<Incoming>) -> Option<Response> {
    if request.method() == Method::CONNECT {
        let mut response = problem_response(
            StatusCode::METHOD_NOT_ALLOWED,
            "CONNECT is not supported: this server is no proxy",
        );
        let headers = response.headers_mut();
        headers.insert(ALLOW, HeaderValue::from_static(""));
        return Some(response);
    }
    let is_for_server = request.method() == Method::OPTIONS && request.uri().path() == "*";
    is_for_server.then(|| Response::builder().status(StatusCode::NO_CONTENT).finish())
}

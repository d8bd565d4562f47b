//! Handles every request of either port: counts it, gives it an id, checks it, routes it through
//! poem, and logs it.

mod early;
mod forward;
mod raw;
mod router;

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{Either, Full};
use hyper::Method;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::http::uri::Scheme;
use poem::Response;
use poem::endpoint::BoxEndpoint;
use poem::http::StatusCode;
use poem::web::{LocalAddr, RemoteAddr};

use crate::audit::AuditTrail;
use crate::config::LiveSettings;
use crate::proxy::{Forwarded, Proxy, ProxyBody};
use crate::server::http::access_log::{AccessRecord, HEALTH_PATH, PendingRequest, UsedSession};
use crate::server::http::application::is_own_path;
use crate::server::http::audit::{AuditRecord, AuditedActions};
use crate::server::http::body::drain_request;
use crate::server::http::forwarded::{ForwardedClient, forwarded_hops};
use crate::server::http::headers;
use crate::server::http::headers::ApplicationResponse;
use crate::server::http::origin::OwnOrigins;
use crate::server::http::problem::{ProblemDetail, problem_response};
use crate::server::http::request_id::{REQUEST_ID, RequestIds, client_request_id};
use crate::server::http::validity::{self, InvalidRequest};
use crate::server::limits::LimitKind;
use crate::server::metrics::RouteMetrics;
use crate::server::pool::{
    ClientSocket, ConnectionPool, ConnectionState, DetachedResponse, TrackedBody,
};
use crate::server::shutdown::Shutdown;

/// Responds to `GET /health` without the router, because load balancers request nothing as often.
/// With the router and a timer for each request it had 0.77 of the throughput of bare hyper;
/// without both it has all of it (`make bench`).
pub type HealthHandler = Box<dyn Fn() -> (StatusCode, Bytes) + Send + Sync>;

/// The `Allow` header of each path.
type AllowByPath = HashMap<String, HeaderValue>;

type Body = Either<Either<Full<Bytes>, ProxyBody>, BoxBody<Bytes, std::io::Error>>;

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
    /// Set for the public server of an application.
    proxy: Option<Arc<Proxy>>,
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
            proxy: None,
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

    /// Forwards all requests but health checks to the application.
    pub(crate) fn with_proxy(self, proxy: Option<Arc<Proxy>>) -> Self {
        Self { proxy, ..self }
    }

    /// Whether requests go to an application.
    pub(crate) fn has_application(&self) -> bool {
        self.proxy.is_some()
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
        let is_own = |_: &&Arc<Proxy>| !is_own_path(request.uri().path());
        let proxy = self.proxy.as_ref().filter(is_own);
        let series = match proxy {
            Some(_) => self.routes.application(request.method()),
            None => self.routes.series(request.method(), request.uri().path()),
        };
        let mut access = AccessRecord {
            server: self.name,
            series,
            request_id: self.request_ids.next(),
            client_request_id: client_request_id(request.headers()),
            started,
            peer,
            client: None,
            session: self.own_origins.as_ref().map(|_| UsedSession::default()),
        };
        let is_health_check =
            request.method() == Method::GET && request.uri().path() == HEALTH_PATH;
        let validity = validity::check(&mut request)
            .and_then(|()| validity::check_framing(state.has_two_framings()));
        let mut response = match (&self.health, proxy) {
            (Some(handler), None) if is_health_check && validity.is_ok() => {
                let (status, body) = handler();
                access.record("GET", HEALTH_PATH, status.as_u16());
                let mut response =
                    hyper::Response::new(Either::Left(Either::Left(Full::new(body))));
                *response.status_mut() = status;
                let headers = response.headers_mut();
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                headers::set_no_store(headers);
                drain_request(request, state).await;
                response
            }
            (_, Some(proxy)) => {
                let hops = self.believe_proxy(request.headers(), &mut access);
                let client = Forwarded {
                    peer: peer.ip(),
                    hops: hops.as_deref(),
                    local,
                    request_id: &access.request_id,
                };
                let mut response = self
                    .forward_logged(request, validity, proxy, client, &access, state)
                    .await;
                if let Either::Left(Either::Right(body)) = response.body_mut()
                    && let Some(tunnel) = body.take_tunnel()
                {
                    guard.set_tunnel(tunnel);
                }
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

        let status = response.status();
        let headers = response.headers_mut();
        headers.insert(REQUEST_ID.clone(), access.request_id);
        let is_tunnel = status == StatusCode::SWITCHING_PROTOCOLS;
        if !is_tunnel && (self.shutdown.has_started() || state.closes_after_response()) {
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

    /// Takes the client and the request id from a trusted proxy. Returns the way of the request to
    /// that proxy, or `None` if it is not trusted.
    fn believe_proxy(
        &self,
        headers: &HeaderMap,
        access: &mut AccessRecord<'_>,
    ) -> Option<Vec<IpAddr>> {
        let trusted = &self.live_settings.as_ref()?.settings().trusted_proxies;
        if !trusted.contains(access.peer.ip()) {
            return None;
        }
        let hops = forwarded_hops(headers, trusted);
        access.client = hops.first().copied();
        if let Some(id) = access.client_request_id.take() {
            access.request_id = id;
        }
        Some(hops)
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
}

//! What happens to every request on either port: it is counted, named, guarded, answered by poem, and logged.

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
use hyper::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::http::uri::Scheme;
use poem::endpoint::BoxEndpoint;
use poem::http::StatusCode;
use poem::web::{LocalAddr, RemoteAddr};
use poem::{Endpoint, Response};

use super::log_stream::Handover;
use super::problem::{problem_of, response};
use super::progress::{Progress, Tracked};
use super::shutdown::Shutdown;
use super::site;
use super::traffic::Traffic;

pub(super) static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// A longer id of a client is not taken over.
const MAX_REQUEST_ID: usize = 128;

/// The answer to `GET /health`, which is asked more often than anything else: it is made before, and skips the
/// router. Through the router, and with a timer for each request, it had 0.77 of the throughput of bare hyper; without
/// both it has all of it (`make bench`).
pub(super) type Probe = Box<dyn Fn() -> (StatusCode, Bytes) + Send + Sync>;

/// `Allow` by path.
type Allow = HashMap<String, HeaderValue>;

type Body = Either<Full<Bytes>, BoxBody<Bytes, std::io::Error>>;

/// A router with what surrounds it.
pub struct Service {
    name: &'static str,
    endpoint: BoxEndpoint<'static>,
    /// Made at the first wrong method.
    allow: LazyLock<Allow, Box<dyn FnOnce() -> Allow + Send>>,
    /// Set for the admin server: where it listens.
    admin: Option<IpAddr>,
    probe: Option<Probe>,
    traffic: Arc<Traffic>,
    shutdown: Shutdown,
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
        allow: impl FnOnce() -> Allow + Send + 'static,
        traffic: Arc<Traffic>,
        shutdown: Shutdown,
    ) -> Self {
        Self {
            name,
            endpoint,
            allow: LazyLock::new(Box::new(allow)),
            admin: None,
            probe: None,
            traffic,
            shutdown,
            request_ids: RequestIds::new(),
        }
    }

    /// Guards against pages of other sites, for a server that is bound to `address`.
    pub(super) fn guarded(self, address: IpAddr) -> Self {
        Self {
            admin: Some(address),
            ..self
        }
    }

    /// Answers `GET /health` without the router.
    pub(super) fn with_probe(self, probe: Probe) -> Self {
        Self {
            probe: Some(probe),
            ..self
        }
    }

    /// `public` or `admin`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Whether the answer with this request id is this service's, to a request that brought none.
    pub(super) fn has_named(&self, request_id: &HeaderValue) -> bool {
        let id = request_id.to_str().unwrap_or_default();
        id.strip_prefix(&*self.request_ids.prefix)
            .is_some_and(|rest| rest.starts_with('-'))
    }

    pub(super) fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    pub(super) async fn answer(
        &self,
        request: hyper::Request<Incoming>,
        peer: SocketAddr,
        local: SocketAddr,
        progress: &Arc<Progress>,
    ) -> hyper::Response<Tracked<Body>> {
        let started = Instant::now();
        let counted = self.traffic.request();
        let in_flight = progress.begin();
        let request_id = self.request_ids.of(&request);
        let access = Access {
            server: self.name,
            request_id,
            started,
            peer,
        };

        let mut answer: hyper::Response<Body> = match &self.probe {
            Some(probe) if request.method() == Method::GET && request.uri().path() == HEALTH => {
                let (status, body) = probe();
                access.log(&Method::GET, HEALTH, status.as_u16());
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
                let mut pending = Pending {
                    access: &access,
                    method: request.method().clone(),
                    path: uri.path(),
                    status: CLIENT_GONE,
                };
                let refusal = self
                    .admin
                    .and_then(|bound| site::refusal(request.headers(), bound));
                let answer = match refusal {
                    Some(reason) => response(StatusCode::FORBIDDEN, reason),
                    None => self.route(request, peer, local, uri.path()).await,
                };
                pending.status = answer.status().as_u16();
                let mut answer = hyper::Response::from(answer).map(Either::Right);
                let stream = answer.extensions_mut().remove::<Handover>();
                if let Some(stream) = stream.and_then(|handover| handover.take(version))
                    && takes_stream
                {
                    in_flight.hand_over(stream);
                }
                answer
            }
        };

        let headers = answer.headers_mut();
        headers.insert(REQUEST_ID.clone(), access.request_id);
        if self.admin.is_some() && !headers.contains_key(CACHE_CONTROL) {
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
        if self.shutdown.has_begun() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        drop(counted);
        answer.map(|body| in_flight.until_sent(body))
    }

    async fn route(
        &self,
        request: hyper::Request<Incoming>,
        peer: SocketAddr,
        local: SocketAddr,
        path: &str,
    ) -> Response {
        let request = poem::Request::from((
            request,
            LocalAddr(local.into()),
            RemoteAddr(peer.into()),
            Scheme::HTTP,
        ));
        // A panic was logged by the hook; it ends the request, not the connection.
        match AssertUnwindSafe(self.endpoint.call(request))
            .catch_unwind()
            .await
        {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => problem_of(error, path, || self.allow.get(path).cloned()),
            Err(_) => response(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the service failed on this request; its log says where",
            ),
        }
    }
}

const HEALTH: &str = "/health";

/// What nginx logs for a client that went away before it was answered.
const CLIENT_GONE: u16 = 499;

struct Access {
    server: &'static str,
    request_id: HeaderValue,
    started: Instant,
    peer: SocketAddr,
}

/// Logs the request when it is dropped: with its status, or as one whose client went away.
struct Pending<'a> {
    access: &'a Access,
    method: Method,
    path: &'a str,
    status: u16,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.access.log(&self.method, self.path, self.status);
    }
}

impl Access {
    /// One event a request: probes at DEBUG, the rest at INFO. The query is left out: it may hold a secret.
    fn log(&self, method: &Method, path: &str, status: u16) {
        macro_rules! event {
            ($level:ident) => {
                tracing::$level!(
                    target: "access",
                    server = self.server,
                    %method,
                    path,
                    status,
                    duration_us = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX),
                    peer = %self.peer,
                    request_id = self.request_id.to_str().unwrap_or_default(),
                )
            };
        }
        let is_probe = path
            .strip_prefix(HEALTH)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if is_probe {
            event!(debug);
        } else {
            event!(info);
        }
    }
}

/// Names for requests that bring none: unlike those of another run, and counted up.
struct RequestIds {
    prefix: String,
    next: AtomicU64,
}

impl RequestIds {
    fn new() -> Self {
        let run = uuid::Uuid::new_v4().simple().to_string();
        Self {
            prefix: run[..8].to_owned(),
            next: AtomicU64::new(1),
        }
    }

    /// The client's own id if it is harmless in a log, or a new one.
    fn of(&self, request: &hyper::Request<Incoming>) -> HeaderValue {
        if let Some(given) = request.headers().get(&REQUEST_ID)
            && (1..=MAX_REQUEST_ID).contains(&given.len())
            && given
                .as_bytes()
                .iter()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.:+/=".contains(b))
        {
            return given.clone();
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let id = format!("{}-{number:08x}", self.prefix);
        HeaderValue::from_maybe_shared(Bytes::from(id))
            .unwrap_or_else(|_| HeaderValue::from_static("-"))
    }
}

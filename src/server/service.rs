//! What happens to every request on either port: it is counted, named, guarded, answered by poem, and logged.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http_body_util::combinators::BoxBody;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONNECTION, HeaderName, HeaderValue};
use hyper::http::uri::Scheme;
use poem::endpoint::BoxEndpoint;
use poem::http::StatusCode;
use poem::web::{LocalAddr, RemoteAddr};
use poem::{Endpoint, Response};

use super::connection::Progress;
use super::problem::{problem_of, response};
use super::shutdown::Shutdown;
use super::site;
use super::traffic::Traffic;

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// A longer id of a client is not taken over.
const MAX_REQUEST_ID: usize = 128;

/// Marks an answer whose body does not end by itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Streaming;

/// A router with what surrounds it.
pub struct Service {
    name: &'static str,
    endpoint: BoxEndpoint<'static>,
    /// `Allow` by path.
    allow: HashMap<String, HeaderValue>,
    /// Set for the admin server: where it listens.
    admin: Option<IpAddr>,
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
        allow: HashMap<String, HeaderValue>,
        admin: Option<IpAddr>,
        traffic: Arc<Traffic>,
        shutdown: Shutdown,
    ) -> Arc<Self> {
        Arc::new(Self {
            name,
            endpoint,
            allow,
            admin,
            traffic,
            shutdown,
            request_ids: RequestIds::new(),
        })
    }

    /// `public` or `admin`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    pub(super) async fn answer(
        &self,
        request: hyper::Request<Incoming>,
        peer: SocketAddr,
        local: SocketAddr,
        progress: &Progress,
    ) -> hyper::Response<BoxBody<Bytes, std::io::Error>> {
        let started = Instant::now();
        let counted = self.traffic.request();
        progress.begin();
        let request_id = self.request_ids.of(&request);
        let method = request.method().clone();
        let uri = request.uri().clone();

        let mut answer = match self
            .admin
            .and_then(|bound| site::refusal(request.headers(), bound))
        {
            Some(reason) => response(StatusCode::FORBIDDEN, reason),
            None => self.route(request, peer, local, uri.path()).await,
        };

        let is_stream = answer.extensions().get::<Streaming>().is_some();
        let headers = answer.headers_mut();
        headers.insert(REQUEST_ID.clone(), request_id.clone());
        if self.admin.is_some() && !headers.contains_key(CACHE_CONTROL) {
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
        if self.shutdown.has_begun() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        log_access(&Access {
            server: self.name,
            method: &method,
            path: uri.path(),
            status: answer.status(),
            started,
            peer,
            request_id: &request_id,
        });
        progress.answered(is_stream);
        drop(counted);
        answer.into()
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
            Ok(Err(error)) => problem_of(error, path, self.allow.get(path)),
            Err(_) => response(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the service failed on this request; its log says where",
            ),
        }
    }
}

struct Access<'a> {
    server: &'static str,
    method: &'a hyper::Method,
    path: &'a str,
    status: StatusCode,
    started: Instant,
    peer: SocketAddr,
    request_id: &'a HeaderValue,
}

/// One event a request: probes at DEBUG, the rest at INFO. The query is left out: it may hold a secret.
fn log_access(access: &Access<'_>) {
    macro_rules! event {
        ($level:ident) => {
            tracing::$level!(
                target: "access",
                server = access.server,
                method = %access.method,
                path = access.path,
                status = access.status.as_u16(),
                duration_us = u64::try_from(access.started.elapsed().as_micros()).unwrap_or(u64::MAX),
                peer = %access.peer,
                request_id = access.request_id.to_str().unwrap_or_default(),
            )
        };
    }
    if access.path == "/health" || access.path.starts_with("/health/") {
        event!(debug);
    } else {
        event!(info);
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

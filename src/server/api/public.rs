//! The public API: health, documentation, and the routes of the application.

use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;
use poem::endpoint::BoxEndpoint;
use poem::http::{HeaderValue, StatusCode};
use poem::{EndpointExt as _, IntoEndpoint, Response};
use poem_openapi::{OpenApi, OpenApiService, Tags, Webhook};
use serde_json::Value;
use thiserror::Error;

use crate::api::{HealthReport, LivenessReport, ReadinessReport, ServiceInfo, VERSION};
use crate::config::LiveSettings;
use crate::health::Health;
use crate::identity::identity;
use crate::proxy::Proxy;
use crate::server::http::Service;
use crate::server::http::headers::ApplicationResponse;
use crate::server::http::json::{JsonResponse, PrerenderedJson};
use crate::server::http::problem::Result;
use crate::server::metrics::Metrics;
use crate::server::openapi;
use crate::server::pool::ConnectionPool;
use crate::server::shutdown::Shutdown;
use crate::server::ui::docs;

/// Routes of the application on the public port.
#[derive(Default)]
pub struct Mounts(Vec<Mount>);

struct Mount {
    path: String,
    endpoint: BoxEndpoint<'static>,
    /// The `Allow` header of each path, if the operations are known.
    allow: fn(prefix: &str) -> Vec<(String, HeaderValue)>,
}

impl Mounts {
    /// Adds an endpoint below a path, which [`Self::check`] checks.
    pub fn add(&mut self, path: &str, endpoint: impl IntoEndpoint<Endpoint: 'static>) {
        self.push(path, endpoint, |_| Vec::new());
    }

    /// As [`Self::add`], with an `Allow` header in each response to a wrong method.
    pub fn add_api<T, W>(&mut self, path: &str, api: OpenApiService<T, W>)
    where
        T: OpenApi + 'static,
        W: Webhook + 'static,
    {
        self.push(path, api, |prefix| {
            openapi::allowed_methods_below::<T>(prefix).collect()
        });
    }

    fn push(
        &mut self,
        path: &str,
        endpoint: impl IntoEndpoint<Endpoint: 'static>,
        allow: fn(prefix: &str) -> Vec<(String, HeaderValue)>,
    ) {
        let endpoint = endpoint.into_endpoint().map_to_response();
        let endpoint = endpoint.after(|response: poem::Result<Response>| async {
            response.map(|mut response| {
                response.extensions_mut().insert(ApplicationResponse);
                response
            })
        });
        self.0.push(Mount {
            path: path.to_owned(),
            endpoint: endpoint.boxed(),
            allow,
        });
    }

    /// Checks the paths. The router would panic, or never use a path that is below another one.
    ///
    /// # Errors
    ///
    /// The first path that cannot be mounted.
    pub fn check(&self) -> std::result::Result<(), MountError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let paths = openapi::routes(&document_service()).into_iter();
        let paths = paths.map(|route| route.path).chain(docs::paths(""));
        let own: Vec<_> = paths.map(|path| first_segment(&path).to_owned()).collect();
        for (index, Mount { path, .. }) in self.0.iter().enumerate() {
            let earlier = &self.0[..index];
            let problem = if own.iter().any(|own| own == first_segment(path)) {
                "this path belongs to fullon"
            } else if !is_plain_path(path) {
                "a path begins with `/`, has no empty segment and no `/` at its end, and consists of letters, digits and `-._~`"
            } else if earlier.iter().any(|mount| mount.path == *path) {
                "this path is already mounted"
            } else {
                continue;
            };
            return Err(MountError {
                path: path.clone(),
                problem,
            });
        }
        Ok(())
    }
}

/// A path cannot be mounted.
#[derive(Debug, Error)]
#[error("mount({path:?}): {problem}")]
pub struct MountError {
    path: String,
    problem: &'static str,
}

/// The path up to its second `/`, without the first.
fn first_segment(path: &str) -> &str {
    let path = path.strip_prefix('/').unwrap_or(path);
    path.split('/').next().unwrap_or_default()
}

/// Whether the path has the same meaning for every client and for the router, which gives `:`, `*`
/// and `<` a meaning of their own. The characters are those that are never encoded (RFC 3986,
/// section 2.3).
fn is_plain_path(path: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let is_segment =
        |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(is_plain);
    path.strip_prefix('/')
        .is_some_and(|path| path.split('/').all(is_segment))
}

/// The service of the public port. It believes the `TRUSTED_PROXIES` of the settings. With a proxy,
/// only the health checks are the daemon's own paths.
#[must_use]
pub fn service(
    health: Arc<Health>,
    mounts: Mounts,
    connections: Arc<ConnectionPool>,
    metrics: &Metrics,
    shutdown: Shutdown,
    live_settings: Option<Arc<LiveSettings>>,
    proxy: Option<Arc<Proxy>>,
) -> Arc<Service> {
    if let Some(proxy) = &proxy {
        let _ = metrics.application.set(Arc::clone(proxy));
    }
    let allow_of_mounts: Vec<_> = mounts
        .0
        .iter()
        .map(|it| (it.path.clone(), it.allow))
        .collect();
    let allowed_methods = || {
        let mut allowed = openapi::allowed_methods(&document_service(), docs::paths(""));
        let mounted = allow_of_mounts.into_iter();
        allowed.extend(mounted.flat_map(|(path, allow)| allow(&path)));
        allowed
    };
    let mut routes = docs::routes("", public_document, document_service);
    let mounted: Vec<String> = mounts.0.iter().map(|it| it.path.clone()).collect();
    for Mount { path, endpoint, .. } in mounts.0 {
        routes = routes.nest(path, endpoint);
    }
    let summary = Arc::new(HealthSummary::new(health));
    let api = openapi_service(Arc::clone(&summary));
    let endpoint = routes.nest("/", api).map_to_response().boxed();
    let paths = openapi::routes(&document_service()).into_iter();
    let paths = paths.map(|route| route.path).chain(docs::paths(""));
    let metrics = metrics.requests.routes("public", paths, mounted);
    let service = Service::new(
        "public",
        endpoint,
        allowed_methods,
        connections,
        metrics,
        shutdown,
    );
    let service = service.with_live_settings(live_settings).with_proxy(proxy);
    Arc::new(service.with_health_handler(Box::new(move || summary.respond())))
}

/// Responds to `GET /health` with one of two bodies that are rendered once.
struct HealthSummary {
    health: Arc<Health>,
    healthy: Bytes,
    unhealthy: Bytes,
}

impl HealthSummary {
    fn new(health: Arc<Health>) -> Self {
        let render =
            |ready| Bytes::from(serde_json::to_vec(&HealthReport::new(ready)).unwrap_or_default());
        Self {
            health,
            healthy: render(true),
            unhealthy: render(false),
        }
    }

    fn respond(&self) -> (StatusCode, Bytes) {
        if self.health.is_ready() {
            (StatusCode::OK, self.healthy.clone())
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, self.unhealthy.clone())
        }
    }
}

fn openapi_service(summary: Arc<HealthSummary>) -> OpenApiService<PublicApi, ()> {
    OpenApiService::new(PublicApi(summary), identity().title, VERSION)
        .description("The public API: health checks for load balancers, and documentation. It needs no token. Errors are problem details (RFC 9457).")
}

/// The OpenAPI document of the public API.
#[must_use]
pub fn public_document() -> Value {
    openapi::document(
        &document_service(),
        ".",
        "http://127.0.0.1:8000",
        "The public API with the default HOST and PORT, on this machine.",
        &[],
    )
}

/// A service without a daemon, for the OpenAPI document.
fn document_service() -> OpenApiService<PublicApi, ()> {
    openapi_service(Arc::new(HealthSummary::new(Arc::new(Health::new(None)))))
}

/// Topic of an operation.
#[derive(Tags)]
#[oai(rename_all = "lowercase")]
enum PublicTag {
    /// Name and version of the service.
    Service,
    /// Health checks for load balancers and supervisors.
    Health,
}

struct PublicApi(Arc<HealthSummary>);

#[expect(clippy::unused_async, reason = "operations of poem-openapi are async")]
#[OpenApi]
impl PublicApi {
    /// Get the name and version of the service.
    ///
    /// Returns the paths of the documentation and of the health endpoint, too.
    #[oai(
        path = "/",
        method = "get",
        operation_id = "get_service_info",
        tag = "PublicTag::Service"
    )]
    async fn service_info(&self) -> Result<JsonResponse<ServiceInfo>> {
        Ok(JsonResponse(ServiceInfo {
            service: identity().service.into(),
            version: VERSION.into(),
            docs: "/docs".into(),
            health: "/health".into(),
        }))
    }

    /// Check the health of the service.
    ///
    /// Responds with 503 while the process starts or drains, or when a dependency is down. Responds
    /// at once: dependencies are probed in the background.
    #[oai(
        path = "/health",
        method = "get",
        operation_id = "get_health",
        tag = "PublicTag::Health"
    )]
    async fn health(&self) -> Result<PrerenderedJson<HealthReport>> {
        let (status, body) = self.0.respond();
        Ok(PrerenderedJson {
            status,
            body,
            kind: PhantomData,
        })
    }

    /// Check that the process is alive.
    ///
    /// Responds with 200 while the process serves requests, whatever the state of its dependencies.
    /// A supervisor should restart a process that does not respond.
    #[oai(
        path = "/health/live",
        method = "get",
        operation_id = "get_liveness",
        tag = "PublicTag::Health"
    )]
    async fn live(&self) -> Result<JsonResponse<LivenessReport>> {
        Ok(JsonResponse(LivenessReport {
            status: "alive".into(),
        }))
    }

    /// Check that the service accepts traffic.
    ///
    /// Responds with 503 while the process starts or drains, or when a dependency is down. The body
    /// has the state, the latency and the last error of each health check.
    #[oai(
        path = "/health/ready",
        method = "get",
        operation_id = "get_readiness",
        tag = "PublicTag::Health"
    )]
    async fn ready(&self) -> Result<PrerenderedJson<ReadinessReport>> {
        let readiness = ReadinessReport::from(&*self.0.health);
        Ok(PrerenderedJson {
            status: if readiness.ready {
                StatusCode::OK
            } else {
                StatusCode::SERVICE_UNAVAILABLE
            },
            body: serde_json::to_vec(&readiness).unwrap_or_default().into(),
            kind: PhantomData,
        })
    }
}

#[cfg(test)]
mod tests {
    use poem::Route;

    use super::*;

    fn check(paths: &[&str]) -> String {
        let mut mounts = Mounts::default();
        for path in paths {
            mounts.add(path, Route::new());
        }
        mounts
            .check()
            .err()
            .map_or(String::new(), |error| error.to_string())
    }

    #[test]
    fn path_of_fullon_cannot_be_mounted() {
        for path in [
            "",
            "/",
            "/health",
            "/health/mine",
            "/docs",
            "/docs/mine",
            "/openapi.json",
            "health",
        ] {
            let expected = format!("mount({path:?}): this path belongs to fullon");
            assert_eq!(check(&["/shop", path]), expected);
        }
    }

    #[test]
    fn path_is_mounted_once() {
        let expected = "mount(\"/shop\"): this path is already mounted";
        assert_eq!(check(&["/shop", "/cart", "/shop"]), expected);
    }

    #[test]
    fn mounted_path_is_a_plain_prefix() {
        for path in [
            "shop", "/shop/", "/shop//a", "/:id", "/a/*rest", "/a b", "/<id>", "/a?b", "/..",
            "/a%2f",
        ] {
            let error = check(&[path]);
            assert!(error.contains("a path begins with `/`"), "{path}: {error}");
        }
        let accepted = ["/shop", "/shop/admin", "/healthy", "/v1.0/~me_x"];
        assert_eq!(check(&accepted), "");
        // The router accepts what the check accepts.
        let mut mounts = Mounts::default();
        for path in accepted {
            mounts.add(path, Route::new());
        }
        let routes = docs::routes("", public_document, document_service);
        let _ = mounts.0.into_iter().fold(routes, |routes, mount| {
            routes.nest(mount.path, mount.endpoint)
        });
    }
}

//! The public API: health for load balancers, documentation for people, and whatever an application mounts.

use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;
use poem::endpoint::BoxEndpoint;
use poem::http::StatusCode;
use poem::{EndpointExt as _, IntoEndpoint};
use poem_openapi::{OpenApi, OpenApiService, Tags};

use super::clients::ConnectionPool;
use super::metrics::Metrics;
use super::payload::{JsonResponse, PrerenderedJson};
use super::problem::ApiError;
use super::service::Service;
use super::shutdown::Shutdown;
use super::{docs, openapi};
use crate::api::{Health as HealthBody, Index, Liveness, Readiness, SERVICE_NAME, VERSION};
use crate::health::Health;

type Result<T> = std::result::Result<T, ApiError>;

/// What is mounted beside the built-in routes of the public port.
#[derive(Default)]
pub struct Mounts(Vec<(String, BoxEndpoint<'static>)>);

impl Mounts {
    /// Adds an endpoint below a path.
    pub fn add(&mut self, path: &str, endpoint: impl IntoEndpoint<Endpoint: 'static>) {
        let endpoint = endpoint.into_endpoint().map_to_response().boxed();
        self.0.push((path.to_owned(), endpoint));
    }
}

/// The public server's service.
#[must_use]
pub fn service(
    health: Arc<Health>,
    mounts: Mounts,
    clients: Arc<ConnectionPool>,
    metrics: &Metrics,
    shutdown: Shutdown,
) -> Arc<Service> {
    let allow = || openapi::allowed_methods(&openapi::public_document(), docs::paths(""));
    let mut routes = docs::routes("", openapi::public_document, document_service);
    let mounted: Vec<String> = mounts.0.iter().map(|(path, _)| path.clone()).collect();
    for (path, endpoint) in mounts.0 {
        routes = routes.nest(path, endpoint);
    }
    let summary = Arc::new(HealthSummary::new(health));
    let api = openapi_service(Arc::clone(&summary));
    let endpoint = routes.nest("/", api).map_to_response().boxed();
    let paths = openapi::paths(&document_service()).into_iter();
    let counted = metrics.routes("public", paths.chain(docs::paths("")), mounted);
    let service = Service::new("public", endpoint, allow, clients, counted, shutdown);
    Arc::new(service.with_health_handler(Box::new(move || summary.respond())))
}

/// The answer of `/health`: one of two bodies that are made once.
struct HealthSummary {
    health: Arc<Health>,
    healthy: Bytes,
    unhealthy: Bytes,
}

impl HealthSummary {
    fn new(health: Arc<Health>) -> Self {
        let render =
            |ready| Bytes::from(serde_json::to_vec(&Health::summary(ready)).unwrap_or_default());
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
    OpenApiService::new(PublicApi(summary), "Fullon Master API", VERSION)
        .description("The public API: health for load balancers and documentation for people.")
}

/// One that only describes itself.
pub(super) fn document_service() -> OpenApiService<PublicApi, ()> {
    openapi_service(Arc::new(HealthSummary::new(Arc::new(Health::new(None)))))
}

/// What an operation is about.
#[derive(Tags)]
#[oai(rename_all = "lowercase")]
enum Tag {
    /// What answers here.
    Service,
    /// For load balancers, and whoever restarts what does not live.
    Health,
}

pub(super) struct PublicApi(Arc<HealthSummary>);

#[expect(clippy::unused_async, reason = "operations of poem-openapi are async")]
#[OpenApi]
impl PublicApi {
    /// Service, version and links.
    #[oai(
        path = "/",
        method = "get",
        operation_id = "get_index",
        tag = "Tag::Service"
    )]
    async fn index(&self) -> Result<JsonResponse<Index>> {
        Ok(JsonResponse(Index {
            service: SERVICE_NAME.into(),
            version: VERSION.into(),
            docs: "/docs".into(),
            health: "/health".into(),
        }))
    }

    /// Whether the service can be used.
    ///
    /// Never waits for anything. 503 while the process starts or drains, or when a dependency is down.
    #[oai(
        path = "/health",
        method = "get",
        operation_id = "get_health",
        tag = "Tag::Health"
    )]
    async fn health(&self) -> Result<PrerenderedJson<HealthBody>> {
        let (status, body) = self.0.respond();
        Ok(PrerenderedJson {
            status,
            body,
            kind: PhantomData,
        })
    }

    /// Whether the process serves. A failure means that it should be restarted.
    #[oai(
        path = "/health/live",
        method = "get",
        operation_id = "get_liveness",
        tag = "Tag::Health"
    )]
    async fn live(&self) -> Result<JsonResponse<Liveness>> {
        Ok(JsonResponse(Liveness {
            status: "alive".into(),
        }))
    }

    /// Whether traffic should be sent here, and the state of each check.
    #[oai(
        path = "/health/ready",
        method = "get",
        operation_id = "get_readiness",
        tag = "Tag::Health"
    )]
    async fn ready(&self) -> Result<PrerenderedJson<Readiness>> {
        let readiness = self.0.health.readiness();
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

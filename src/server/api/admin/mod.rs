//! The admin API. One file per topic holds the operations, and declares their audit actions and
//! errors.

mod audit;
mod level;
mod lifecycle;
mod line_count;
mod logs;
mod metrics;
mod seconds;
mod session;
mod settings;
mod state;
mod status;
mod tag;
mod tokens;
mod worker_status;

use std::net::SocketAddr;
use std::sync::Arc;

use poem::EndpointExt as _;
use poem_openapi::{OpenApi, OpenApiService};
use serde_json::Value;

use self::audit::AuditApi;
use self::level::LevelApi;
use self::lifecycle::LifecycleApi;
use self::logs::LogsApi;
use self::metrics::MetricsApi;
pub use self::metrics::{pass_counters_on, share_counters};
use self::session::SessionApi;
use self::settings::SettingsApi;
pub use self::state::AdminState;
use self::state::StateHandle;
use self::status::StatusApi;
use self::tokens::TokensApi;
use crate::api::{PROOF_PATH, VERSION};
use crate::auth::{Keyring, SessionStore};
use crate::config::LiveSettings;
use crate::identity::identity;
use crate::server::auth::{AuthState, proof};
use crate::server::http::{Service, compress};
use crate::server::openapi::{self, Operation};
use crate::server::ui::{console, docs};

const PREFIX: &str = "/admin";

/// The operations. All operations on one path must be in the same struct: the document would have
/// only the last one.
fn operations(state: &StateHandle) -> impl OpenApi + use<> {
    (
        StatusApi(state.clone()),
        MetricsApi(state.clone()),
        LifecycleApi(state.clone()),
        SettingsApi(state.clone()),
        LevelApi(state.clone()),
        LogsApi(state.clone()),
        AuditApi(state.clone()),
        SessionApi(state.clone()),
        TokensApi(state.clone()),
    )
}

/// The declarations of the operations beside their attributes.
fn declared_operations() -> Vec<&'static Operation> {
    let declared: [&[Operation]; 9] = [
        &status::OPERATIONS,
        &metrics::OPERATIONS,
        &lifecycle::OPERATIONS,
        &settings::OPERATIONS,
        &level::OPERATIONS,
        &logs::OPERATIONS,
        &audit::OPERATIONS,
        &session::OPERATIONS,
        &tokens::OPERATIONS,
    ];
    declared.into_iter().flatten().collect()
}

fn openapi_service(state: &StateHandle) -> OpenApiService<impl OpenApi + use<>, ()> {
    OpenApiService::new(operations(state), format!("{} (admin)", identity().title), VERSION).description(
        "Controls the daemon: status, metrics, settings, stop, restart and log. It listens on loopback only. Every operation needs a token of `fullon token`, or a browser session. Errors are problem details (RFC 9457).",
    )
}

/// A service without a daemon, for the OpenAPI document.
fn document_service() -> OpenApiService<impl OpenApi, ()> {
    openapi_service(&StateHandle::default())
}

/// The OpenAPI document of the admin API.
pub fn admin_document() -> Value {
    openapi::document(
        &document_service(),
        "..",
        "http://127.0.0.1:8001",
        "The admin API with the default ADMIN_HOST and ADMIN_PORT.",
        &declared_operations(),
    )
}

/// The service of the admin port.
pub fn service(state: Arc<AdminState>) -> Arc<Service> {
    let page_paths = || console::paths().chain(docs::paths(PREFIX));
    let allowed_methods = move || {
        let mut allowed = openapi::allowed_methods(&document_service(), page_paths());
        allowed.extend([proof::allowed_methods()]);
        allowed
    };
    let connections = Arc::clone(&state.connections.admin);
    let shutdown = state.shutdown.clone();
    let auth = Arc::clone(&state.auth);
    let origins = auth.origins.clone();
    let trail = Arc::clone(&state.audit);
    let live_settings = Arc::clone(&state.live_settings);
    let routes = openapi::routes(&document_service());
    let paths = routes.iter().map(|route| route.path.clone());
    let requests = &state.metrics.requests;
    let metrics = requests.routes(
        "admin",
        paths.chain(page_paths()).chain([PROOF_PATH.to_owned()]),
        [],
    );
    let declared = declared_operations();
    let audited_actions = routes.into_iter().filter_map(|route| {
        let operation = declared.iter().find(|each| each.id == route.operation_id)?;
        Some((route.path, route.method, operation.audit_action?))
    });
    let audited_actions = audited_actions.collect();
    let pages = docs::routes(PREFIX, admin_document, document_service);
    let endpoint = proof::add_route(console::add_routes(pages))
        .nest("/", openapi_service(&StateHandle::new(state)))
        .around(console::redirect_to_console)
        .around(console::forget_session_on_arrival)
        .around(compress::compress)
        .data(auth)
        .map_to_response()
        .boxed();
    let service = Service::new(
        "admin",
        endpoint,
        allowed_methods,
        connections,
        metrics,
        shutdown,
    );
    Arc::new(
        service
            .with_origin_check(origins)
            .with_live_settings(Some(live_settings))
            .with_audit(audited_actions, trail),
    )
}

/// Verifies the callers of the admin API at `address`.
pub fn auth_state(
    address: SocketAddr,
    live_settings: Arc<LiveSettings>,
    keyring: Keyring,
    sessions: Arc<SessionStore>,
    failed_tokens_per_minute: u32,
) -> Arc<AuthState> {
    Arc::new(AuthState::new(
        address,
        live_settings,
        keyring,
        sessions,
        failed_tokens_per_minute,
        || openapi::query_parameters(&document_service()),
    ))
}

#[cfg(test)]
mod tests;

//! The admin API: what an operator asks and orders, a module for each thing that it is about.

mod daemon;
mod level;
mod log;
mod session;
mod settings;

use std::net::SocketAddr;
use std::sync::Arc;

use poem::EndpointExt as _;
use poem::http::StatusCode;
use poem_openapi::{OpenApiService, Tags};

use self::daemon::DaemonApi;
use self::level::LevelApi;
use self::log::LogsApi;
pub(super) use self::log::MAX_PAGE_LINES;
use self::session::SessionApi;
use self::settings::SettingsApi;
pub use super::context::AdminState;
pub use super::guard::AuthState;
use super::problem::ApiError;
use super::refused_tokens::AuthFailureLimiter;
use super::service::Service;
use super::session::SessionCookie;
use super::{console, docs, openapi};
use crate::api::VERSION;
use crate::auth::{Keyring, SessionStore, SignInTokens};

type Result<T> = std::result::Result<T, ApiError>;

/// All operations of one path are in the same one of these: the document would have only the last one's.
type AdminApi = (DaemonApi, SettingsApi, LevelApi, LogsApi, SessionApi);

/// The admin server's service.
#[must_use]
pub fn service(context: AdminState) -> Arc<Service> {
    let pages = || console::paths().chain(docs::paths("/admin"));
    let allow = move || openapi::allowed_methods(&openapi::admin_document(), pages());
    let [_, clients] = context.connections.clone();
    let shutdown = context.shutdown.clone();
    let address = context.admin_address.ip();
    let gate = Arc::clone(&context.auth);
    let paths = openapi::paths(&document_service()).into_iter();
    let counted = context.metrics.routes("admin", paths.chain(pages()), []);
    let pages = docs::routes("/admin", openapi::admin_document, document_service);
    let endpoint = console::add_routes(pages)
        .nest("/", openapi_service(Some(context)))
        .around(console::redirect_to_console)
        .data(gate)
        .map_to_response()
        .boxed();
    let service = Service::new("admin", endpoint, allow, clients, counted, shutdown);
    Arc::new(service.with_origin_check(address))
}

/// What the callers of the admin API at this address are checked against.
#[must_use]
pub fn auth_state(
    admin: SocketAddr,
    keyring: Keyring,
    sessions: Arc<SessionStore>,
    failed_tokens_per_minute: u32,
) -> Arc<AuthState> {
    Arc::new(AuthState {
        keyring,
        sessions,
        sign_in_tokens: SignInTokens::default(),
        cookie: SessionCookie::new(admin.port()),
        failure_limiter: AuthFailureLimiter::new(failed_tokens_per_minute),
    })
}

/// Without a context it only describes itself.
fn openapi_service(context: Option<AdminState>) -> OpenApiService<AdminApi, ()> {
    let api = StateHandle(context.map(Arc::new));
    let apis = (
        DaemonApi(api.clone()),
        SettingsApi(api.clone()),
        LevelApi(api.clone()),
        LogsApi(api.clone()),
        SessionApi(api),
    );
    OpenApiService::new(apis, "Fullon Master API: admin", VERSION).description(
        "Operates the daemon: status, settings, stop, restart, reload, log. Bound to loopback, and every operation needs a token, or the session that a token was traded for.",
    )
}

pub(super) fn document_service() -> OpenApiService<AdminApi, ()> {
    openapi_service(None)
}

/// What an operation is about.
#[derive(Tags)]
#[oai(rename_all = "lowercase")]
enum Tag {
    /// The process: how it is doing, and what becomes of it.
    Daemon,
    /// What it was told at its start, and since.
    Settings,
    /// Reading the log, and following it.
    Log,
    /// Cookies in place of tokens, for pages.
    Session,
}

/// What the operations are carried out on; without it they only describe themselves.
#[derive(Clone)]
pub(super) struct StateHandle(Option<Arc<AdminState>>);

impl StateHandle {
    fn get(&self) -> Result<&AdminState> {
        self.0.as_deref().ok_or_else(|| {
            ApiError::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "this API only describes itself",
            )
        })
    }
}

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
use self::log::LogApi;
pub(super) use self::log::MAX_PAGE_LINES;
use self::session::SessionApi;
use self::settings::SettingsApi;
pub use super::context::Context;
pub use super::guard::Gate;
use super::problem::Failure;
use super::refused_tokens::RefusedTokens;
use super::service::Service;
use super::session::SessionCookie;
use super::{console, docs, openapi};
use crate::api::VERSION;
use crate::auth::{Keyring, Sessions, SignIns};

type Result<T> = std::result::Result<T, Failure>;

/// All operations of one path are in the same one of these: the document would have only the last one's.
type AdminApi = (DaemonApi, SettingsApi, LevelApi, LogApi, SessionApi);

/// The admin server's service.
#[must_use]
pub fn service(context: Context) -> Arc<Service> {
    let pages = || console::paths().chain(docs::paths("/admin"));
    let allow = move || openapi::allowed_methods(&openapi::admin_document(), pages());
    let [_, clients] = context.clients.clone();
    let shutdown = context.shutdown.clone();
    let address = context.admin.ip();
    let gate = Arc::clone(&context.gate);
    let paths = openapi::paths(&document_service()).into_iter();
    let counted = context.metrics.routes("admin", paths.chain(pages()), []);
    let pages = docs::routes("/admin", openapi::admin_document, document_service);
    let endpoint = console::add_to(pages)
        .nest("/", openapi_service(Some(context)))
        .around(console::lead)
        .data(gate)
        .map_to_response()
        .boxed();
    let service = Service::new("admin", endpoint, allow, clients, counted, shutdown);
    Arc::new(service.guarded(address))
}

/// What the callers of the admin API at this address are checked against.
#[must_use]
pub fn gate(
    admin: SocketAddr,
    keyring: Keyring,
    sessions: Arc<Sessions>,
    failed_tokens_per_minute: u32,
) -> Arc<Gate> {
    Arc::new(Gate {
        keyring,
        sessions,
        sign_ins: SignIns::default(),
        cookie: SessionCookie::of_port(admin.port()),
        refused: RefusedTokens::new(failed_tokens_per_minute),
    })
}

/// Without a context it only describes itself.
fn openapi_service(context: Option<Context>) -> OpenApiService<AdminApi, ()> {
    let api = Described(context.map(Arc::new));
    let apis = (
        DaemonApi(api.clone()),
        SettingsApi(api.clone()),
        LevelApi(api.clone()),
        LogApi(api.clone()),
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
pub(super) struct Described(Option<Arc<Context>>);

impl Described {
    fn context(&self) -> Result<&Context> {
        self.0.as_deref().ok_or_else(|| {
            Failure::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "this API only describes itself",
            )
        })
    }
}

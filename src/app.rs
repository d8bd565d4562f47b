//! The daemon as a library for applications with their own routes.

use std::process::ExitCode;

use poem::IntoEndpoint;
use poem_openapi::{OpenApi, OpenApiService, Webhook};

use crate::cli;
use crate::identity::{Identity, set_identity};
use crate::server::public::Mounts;

/// An application that the daemon serves. Its program has the whole command line: `start`, `stop`,
/// `status`, …
///
/// ```no_run
/// use poem::{get, handler};
///
/// #[handler]
/// fn hello() -> &'static str {
///     "hello"
/// }
///
/// fn main() -> std::process::ExitCode {
///     fullon_master_api::App::new().mount("/hello", get(hello)).main()
/// }
/// ```
#[derive(Default)]
pub struct App {
    identity: Identity,
    mounts: Mounts,
}

impl App {
    /// An application without routes of its own.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Serves `endpoint` below `path` on the public port, next to `/health` and `/docs`.
    ///
    /// `path` is a prefix, such as `/shop` or `/v1/shop`: all paths below it are the endpoint's,
    /// except those below a longer path that is mounted, too. It consists of letters, digits and
    /// `-._~`, and has no parameters. `/`, `/health`, `/docs`, `/openapi.json` and what is below
    /// them belong to fullon. With one of these, or the same path twice, [`Self::main`] prints an
    /// error and returns 2.
    #[must_use]
    pub fn mount(mut self, path: &str, endpoint: impl IntoEndpoint<Endpoint: 'static>) -> Self {
        self.mounts.add(path, endpoint);
        self
    }

    /// As [`Self::mount`], for operations that are described with `poem-openapi`. A response to a
    /// method that a path does not support then lists those that it supports (`Allow`, RFC 9110,
    /// section 15.5.6). Of another endpoint they are not known.
    #[must_use]
    pub fn mount_api<T, W>(mut self, path: &str, api: OpenApiService<T, W>) -> Self
    where
        T: OpenApi + 'static,
        W: Webhook + 'static,
    {
        self.mounts.add_api(path, api);
        self
    }

    /// Runs the command line of this process and returns its exit code.
    #[must_use]
    pub fn main(self) -> ExitCode {
        set_identity(self.identity);
        cli::main(self.mounts)
    }
}

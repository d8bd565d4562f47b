//! The daemon as a library: an application mounts its own routes and gets everything else.

use std::process::ExitCode;

use poem::IntoEndpoint;

use crate::cli;
use crate::server::public::Mounts;

/// An application around the daemon. Its program has the whole command line: `start`, `stop`, `status`, …
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
    mounts: Mounts,
}

impl App {
    /// The daemon as it is.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Serves `endpoint` on the public port below `path`, beside `/health` and `/docs`.
    #[must_use]
    pub fn mount(mut self, path: &str, endpoint: impl IntoEndpoint<Endpoint: 'static>) -> Self {
        self.mounts.add(path, endpoint);
        self
    }

    /// Runs the command line of this process and returns what it should exit with.
    #[must_use]
    pub fn main(self) -> ExitCode {
        cli::main(self.mounts)
    }
}

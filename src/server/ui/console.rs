//! The console: a page on the admin port that uses the admin API like any other client.

use std::sync::Arc;

use bytes::Bytes;
use poem::http::{StatusCode, header};
use poem::{Endpoint, Request, Response, Route, get};

use crate::api::CONSOLE_PATH;
use crate::server::http::static_file::{CSS, HTML, JAVASCRIPT, StaticFile};

/// Paths that redirect to the page.
const REDIRECTED_PATHS: [&str; 2] = ["/", "/admin"];

/// Path, media type and content of a file.
type Asset = (&'static str, &'static str, &'static [u8]);

macro_rules! asset {
    ($kind:expr, $name:literal) => {
        (
            concat!("/console/", $name),
            $kind,
            include_bytes!(concat!("../../console/", $name)),
        )
    };
}

const ASSETS: [Asset; 11] = [
    (
        CONSOLE_PATH,
        HTML,
        include_bytes!("../../console/index.html"),
    ),
    asset!(CSS, "console.css"),
    asset!("image/svg+xml", "icon.svg"),
    asset!(JAVASCRIPT, "main.js"),
    asset!(JAVASCRIPT, "api.js"),
    asset!(JAVASCRIPT, "charts.js"),
    asset!(JAVASCRIPT, "dialogs.js"),
    asset!(JAVASCRIPT, "dom.js"),
    asset!(JAVASCRIPT, "log.js"),
    asset!(JAVASCRIPT, "panels.js"),
    asset!(JAVASCRIPT, "session.js"),
];

/// Adds the page and its assets.
pub fn add_routes(mut route: Route) -> Route {
    for (path, kind, content) in ASSETS {
        let file = StaticFile::new(kind, || Bytes::from_static(content));
        route = route.at(path, get(file));
    }
    route
}

/// Redirects [`REDIRECTED_PATHS`] to the page. This is a middleware, because the API is nested at
/// the root and poem then matches no other route.
pub async fn redirect_to_console<E>(inner: Arc<E>, request: Request) -> poem::Result<Response>
where
    E: Endpoint<Output = Response>,
{
    if !request.method().is_safe() || !REDIRECTED_PATHS.contains(&request.uri().path()) {
        return inner.call(request).await;
    }
    Ok(Response::builder()
        .status(StatusCode::FOUND)
        .header(header::LOCATION, CONSOLE_PATH)
        .finish())
}

/// The paths of the assets and the redirects.
pub fn paths() -> impl Iterator<Item = String> {
    let assets = ASSETS.iter().map(|(path, ..)| *path);
    assets.chain(REDIRECTED_PATHS).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Loads fast also through a slow tunnel.
    const MAX_SIZE: usize = 150 * 1024;

    #[test]
    fn page_is_small_and_loads_nothing_external() {
        let size: usize = ASSETS.iter().map(|(_, _, content)| content.len()).sum();
        assert!(size < MAX_SIZE, "{size}");
        for (path, _, content) in ASSETS {
            let text = std::str::from_utf8(content).unwrap();
            let text = text.replace("http://www.w3.org/2000/svg", "");
            // The Content-Security-Policy would refuse them, too.
            for forbidden in [
                "http:",
                "https:",
                "style=",
                "onclick=",
                "eval(",
                "innerHTML",
            ] {
                assert!(!text.contains(forbidden), "{path} has {forbidden}");
            }
        }
    }
}

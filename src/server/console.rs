//! The console: a page of the admin port, which is a client of the admin API like any other.

use std::sync::Arc;

use bytes::Bytes;
use poem::http::{StatusCode, header};
use poem::{Endpoint, Request, Response, Route, get};

use super::static_file::{CSS, HTML, JAVASCRIPT, StaticFile};
use crate::api::CONSOLE_PATH;

/// What leads to the page.
const REDIRECTED_PATHS: [&str; 2] = ["/", "/admin"];

/// Path, kind and content of a file.
type Asset = (&'static str, &'static str, &'static [u8]);

macro_rules! file {
    ($kind:expr, $name:literal) => {
        (
            concat!("/console/", $name),
            $kind,
            include_bytes!(concat!("../console/", $name)),
        )
    };
}

const ASSETS: [Asset; 10] = [
    (CONSOLE_PATH, HTML, include_bytes!("../console/index.html")),
    file!(CSS, "console.css"),
    file!("image/svg+xml", "icon.svg"),
    file!(JAVASCRIPT, "main.js"),
    file!(JAVASCRIPT, "api.js"),
    file!(JAVASCRIPT, "charts.js"),
    file!(JAVASCRIPT, "dialogs.js"),
    file!(JAVASCRIPT, "dom.js"),
    file!(JAVASCRIPT, "log.js"),
    file!(JAVASCRIPT, "panels.js"),
];

/// Adds the page and its parts.
pub fn add_routes(mut route: Route) -> Route {
    for (path, kind, content) in ASSETS {
        let file = StaticFile::new(kind, || Bytes::from_static(content));
        route = route.at(path, get(file));
    }
    route
}

/// Leads those who type an address to the page. No route: poem has none beside one that is nested at the root.
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

/// All paths that lead to something.
pub fn paths() -> impl Iterator<Item = String> {
    let files = ASSETS.iter().map(|(path, ..)| *path);
    files.chain(REDIRECTED_PATHS).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So that it is there in an instant, also over a slow tunnel.
    const MAX_SIZE: usize = 60 * 1024;

    #[test]
    fn page_is_small_and_loads_nothing_external() {
        let size: usize = ASSETS.iter().map(|(_, _, content)| content.len()).sum();
        assert!(size < MAX_SIZE, "{size}");
        for (path, _, content) in ASSETS {
            let text = std::str::from_utf8(content).unwrap();
            let text = text.replace("http://www.w3.org/2000/svg", "");
            // The policy would refuse them, too.
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

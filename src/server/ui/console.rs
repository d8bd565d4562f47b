//! The console: a page on the admin port that uses the admin API like any other client.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use poem::http::{HeaderName, StatusCode, header};
use poem::{Endpoint, Request, Response, Route, get};

use crate::api::{CONSOLE_CLEAR_PATH, CONSOLE_PATH};
use crate::server::auth::AuthState;
use crate::server::http::origin;
use crate::server::http::problem::ApiError;
use crate::server::http::static_file::{CSS, HTML, JAVASCRIPT, StaticFile};

/// Paths that redirect to the page.
const REDIRECTED_PATHS: [&str; 2] = ["/", "/admin"];
/// The address of the page from there. A path prefix of a proxy stays.
const PAGE_FROM_REDIRECTED: &str = "console";

const SVG: &str = "image/svg+xml";

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

const ASSETS: [Asset; 14] = [
    (
        CONSOLE_PATH,
        HTML,
        include_bytes!("../../console/index.html"),
    ),
    asset!(CSS, "console.css"),
    asset!(SVG, "icon.svg"),
    asset!(JAVASCRIPT, "main.js"),
    asset!(JAVASCRIPT, "api.js"),
    asset!(JAVASCRIPT, "arrival.js"),
    asset!(JAVASCRIPT, "charts.js"),
    asset!(JAVASCRIPT, "clicks.js"),
    asset!(JAVASCRIPT, "dialogs.js"),
    asset!(JAVASCRIPT, "dom.js"),
    asset!(JAVASCRIPT, "log.js"),
    asset!(JAVASCRIPT, "page.js"),
    asset!(JAVASCRIPT, "panels.js"),
    asset!(JAVASCRIPT, "session.js"),
];

/// Pages that use the session of their tab, and the address of `/` from there.
const PAGES_WITH_SESSION: [(&str, &str); 2] = [(CONSOLE_PATH, "."), ("/admin/docs", "..")];

const ARRIVAL: &str = include_str!("../../console/arrival.html");
const EMPTY_IMAGE: &str = "<svg xmlns=\"http://www.w3.org/2000/svg\"/>";
const CLEAR_SITE_DATA: HeaderName = HeaderName::from_static("clear-site-data");
const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName =
    HeaderName::from_static("cross-origin-resource-policy");

/// Adds the page and its assets.
pub fn add_routes(mut route: Route) -> Route {
    for (path, kind, content) in ASSETS {
        let file = StaticFile::new(kind, move || Bytes::from_static(content));
        route = route.at(path, get(file));
    }
    let clear_path = format!("{CONSOLE_CLEAR_PATH}:id");
    route.at(clear_path, get(poem::endpoint::make(clear)))
}

/// Makes the browser forget what another program has left for this origin while it listened on the
/// port: service workers, cached pages and redirects. `fullon console --open` loads it before the
/// page, from a file, where no service worker can answer. Cookies stay, because the other ports of
/// the host have the same ones. The last segment of the path is the id of a one-time token, valid
/// once: other pages do not know it, and nothing that the browser has cached is for this path. A
/// query would not do, because a cached response can be valid for every query (`No-Vary-Search`).
async fn clear(request: Request) -> poem::Result<Response> {
    let tokens = &AuthState::from_request(&request)?.sign_in_tokens;
    let id = request.uri().path().strip_prefix(CONSOLE_CLEAR_PATH);
    if !tokens.use_id(id.unwrap_or_default(), Instant::now()) {
        let detail = "the one-time token of this address was used or has expired";
        return Err(ApiError::new(StatusCode::NOT_FOUND, detail).into());
    }
    Ok(Response::builder()
        .header(CLEAR_SITE_DATA, "\"cache\", \"storage\"")
        .header(CROSS_ORIGIN_RESOURCE_POLICY, "cross-origin")
        .content_type(SVG)
        .body(EMPTY_IMAGE))
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
        .header(header::LOCATION, PAGE_FROM_REDIRECTED)
        .finish())
}

/// Opens a page that the user comes to from another site without the session of the tab. That site
/// may have opened a window to which the browser has copied the session, or may have him click here
/// by surprise. The page that responds instead forgets the session, and then opens the page itself.
pub async fn forget_session_on_arrival<E>(inner: Arc<E>, request: Request) -> poem::Result<Response>
where
    E: Endpoint<Output = Response>,
{
    let path = request.uri().path();
    let page = PAGES_WITH_SESSION.iter().find(|(page, _)| *page == path);
    match page {
        Some((_, root)) if origin::is_cross_origin(request.headers()) => {
            let content = ARRIVAL.replace("ROOT", root);
            Ok(Response::builder().content_type(HTML).body(content))
        }
        _ => inner.call(request).await,
    }
}

/// The paths of the assets and the redirects.
pub fn paths() -> impl Iterator<Item = String> {
    let assets = ASSETS.iter().map(|(path, ..)| *path);
    let others = assets.chain(REDIRECTED_PATHS).map(str::to_owned);
    others.chain([format!("{CONSOLE_CLEAR_PATH}{{id}}")])
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

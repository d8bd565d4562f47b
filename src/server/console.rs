//! The console: a page of the admin port, which is a client of the admin API like any other.

use std::sync::Arc;

use bytes::Bytes;
use poem::http::{StatusCode, header};
use poem::{Endpoint, Request, Response, Route, get};

use super::static_file::{CSS, HTML, JAVASCRIPT, Static};
use crate::api::CONSOLE;

/// What leads to the page.
const SHORT: [&str; 2] = ["/", "/admin"];

/// Path, kind and content of a file.
type File = (&'static str, &'static str, &'static [u8]);

macro_rules! file {
    ($kind:expr, $name:literal) => {
        (
            concat!("/console/", $name),
            $kind,
            include_bytes!(concat!("../console/", $name)),
        )
    };
}

const FILES: [File; 10] = [
    (CONSOLE, HTML, include_bytes!("../console/index.html")),
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
pub fn add_to(mut route: Route) -> Route {
    for (path, kind, content) in FILES {
        let file = Static::new(kind, || Bytes::from_static(content));
        route = route.at(path, get(file));
    }
    route
}

/// Leads those who type an address to the page. No route: poem has none beside one that is nested at the root.
pub async fn lead<E>(inner: Arc<E>, request: Request) -> poem::Result<Response>
where
    E: Endpoint<Output = Response>,
{
    if !request.method().is_safe() || !SHORT.contains(&request.uri().path()) {
        return inner.call(request).await;
    }
    Ok(Response::builder()
        .status(StatusCode::FOUND)
        .header(header::LOCATION, CONSOLE)
        .finish())
}

/// All paths that lead to something.
pub fn paths() -> impl Iterator<Item = String> {
    let files = FILES.iter().map(|(path, ..)| *path);
    files.chain(SHORT).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So that it is there in an instant, also over a slow tunnel.
    const MOST: usize = 60 * 1024;

    #[test]
    fn it_is_small_and_asks_nobody_else() {
        let size: usize = FILES.iter().map(|(_, _, content)| content.len()).sum();
        assert!(size < MOST, "{size}");
        for (path, _, content) in FILES {
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

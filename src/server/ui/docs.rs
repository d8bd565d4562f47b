//! The OpenAPI document, and Swagger UI for it. The page needs no internet access and no inline
//! scripts.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use poem::{Route, get};
use poem_openapi::{OpenApi, OpenApiService};
use serde_json::Value;

use crate::identity::identity;
use crate::server::http::headers::PAGE_POLICY;
use crate::server::http::static_file::{self, StaticFile};

const SCRIPT_PATH: &str = "docs/swagger-ui.js";
const STYLE_PATH: &str = "docs/swagger-ui.css";
const START_PATH: &str = "docs/start.js";
const CLICKS_PATH: &str = "docs/clicks.js";

/// The inline script of the page of poem-openapi. Our content security policy forbids inline scripts.
/// Requests without a token use the session of the console in this tab. The page stores no token.
const START_SCRIPT: &str = "const withSession = request => {
  const { session } = JSON.parse(sessionStorage['fullon-session'] ?? 'null') ?? {};
  if (session && !request.headers.Authorization) request.headers['X-Fullon-Session'] ??= session;
  return request;
};
SwaggerUIBundle({ dom_id: '#ui', url: new URL('openapi.json', document.baseURI).href, deepLinking: true, validatorUrl: null, requestInterceptor: withSession, persistAuthorization: false });
";

/// Ignores clicks that were meant for another page, as in the console.
const CLICKS_SCRIPT: &str = include_str!("../../console/clicks.js");

/// Serves the document at `PREFIX/openapi.json` and its page at `PREFIX/docs`, with the script and
/// the style of the page of `service`. Everything is created at the first request, which most
/// daemons never get.
pub fn routes<T: OpenApi + 'static>(
    prefix: &str,
    document: fn() -> Value,
    service: fn() -> OpenApiService<T, ()>,
) -> Route {
    let json = StaticFile::new("application/json", move || {
        serde_json::to_vec(&document()).unwrap_or_default().into()
    });
    let bundle: Arc<LazyLock<Bytes, _>> =
        Arc::new(LazyLock::new(move || service().swagger_ui_html().into()));
    let part = |element: &'static str, content_type| {
        let bundle = Arc::clone(&bundle);
        StaticFile::new(content_type, move || {
            let page = std::str::from_utf8(&bundle).unwrap_or_default();
            let content = element_content(page, element).unwrap_or_default();
            bundle.slice_ref(content.as_bytes())
        })
    };
    let [json_path, page_path, script, style, start, clicks] = paths(prefix);
    let html = Bytes::from(page());
    // Swagger UI writes descriptions as HTML, which it has sanitized. Trusted Types would need a
    // policy that accepts any HTML.
    let html =
        StaticFile::new(static_file::HTML, move || html.clone()).with_content_policy(PAGE_POLICY);
    Route::new()
        .at(json_path, get(json))
        .at(page_path, get(html))
        .at(script, get(part("script", static_file::JAVASCRIPT)))
        .at(style, get(part("style", static_file::CSS)))
        .at(start, get(own_script(START_SCRIPT)))
        .at(clicks, get(own_script(CLICKS_SCRIPT)))
}

fn own_script(content: &'static str) -> StaticFile {
    StaticFile::new(static_file::JAVASCRIPT, move || {
        Bytes::from_static(content.as_bytes())
    })
}

/// The paths that [`routes`] adds.
pub fn paths(prefix: &str) -> [String; 6] {
    let names = [
        "openapi.json",
        "docs",
        SCRIPT_PATH,
        STYLE_PATH,
        START_PATH,
        CLICKS_PATH,
    ];
    names.map(|name| format!("{prefix}/{name}"))
}

/// Its addresses are relative, because the daemon may be behind a path prefix.
fn page() -> String {
    let title = identity().title;
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n<link rel=\"stylesheet\" href=\"{STYLE_PATH}\">\n<link rel=\"icon\" href=\"data:,\">\n</head>\n<body>\n<div id=\"ui\"></div>\n<script src=\"{SCRIPT_PATH}\"></script>\n<script src=\"{START_PATH}\"></script>\n<script type=\"module\" src=\"{CLICKS_PATH}\"></script>\n</body>\n</html>\n"
    )
}

/// The content of the first element with this name.
fn element_content<'a>(page: &'a str, element: &str) -> Option<&'a str> {
    let (_, rest) = page.split_once(&format!("<{element} "))?;
    let (_, content) = rest.split_once('>')?;
    let (content, _) = content.split_once(&format!("</{element}>"))?;
    Some(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The start script is no module, because the public port has none of the console.
    #[test]
    fn session_has_the_same_name_in_the_console() {
        let console = include_str!("../../console/page.js");
        let (_, name) = console.split_once("SESSION = ").unwrap();
        let (name, _) = name.split_once(';').unwrap();
        assert!(START_SCRIPT.contains(&format!("sessionStorage[{name}]")));
    }

    #[test]
    fn script_and_style_are_found_in_the_page_of_poem() {
        let page = OpenApiService::new((), "", "").swagger_ui_html();
        let script = element_content(&page, "script").unwrap();
        assert!(script.contains("SwaggerUIBundle") && script.len() > 1_000_000);
        let style = element_content(&page, "style").unwrap();
        assert!(style.contains(".swagger-ui") && style.len() > 100_000);
    }
}

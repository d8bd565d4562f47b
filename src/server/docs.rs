//! The OpenAPI document, and Swagger UI for it, which works without internet access.

use std::sync::LazyLock;

use bytes::Bytes;
use poem::http::{HeaderValue, StatusCode, header};
use poem::{Endpoint, Request, Response, Route, get};
use poem_openapi::{OpenApi, OpenApiService};
use serde_json::Value;

/// `PREFIX/openapi.json` with the document, and `PREFIX/docs` with a page for it. `service` is where the document
/// comes from. Both are made when they are first asked for, which most daemons never are.
pub fn routes<T: OpenApi + 'static>(
    prefix: &str,
    document: fn() -> Value,
    service: fn() -> OpenApiService<T, ()>,
) -> Route {
    let json = Static::new("application/json", move || {
        serde_json::to_vec(&document()).unwrap_or_default()
    });
    let page = Static::new("text/html; charset=utf-8", move || {
        swagger_ui(&service(), &document()).into_bytes()
    });
    let [json_path, page_path] = paths(prefix);
    Route::new()
        .at(json_path, get(json))
        .at(page_path, get(page))
}

/// The paths that [`routes`] adds.
pub fn paths(prefix: &str) -> [String; 2] {
    ["openapi.json", "docs"].map(|name| format!("{prefix}/{name}"))
}

/// poem-openapi's page, showing our document in place of the one it derived.
fn swagger_ui<T: OpenApi>(service: &OpenApiService<T, ()>, document: &Value) -> String {
    // The document stands inside a script element, which `</` would end.
    let document = document.to_string().replace("</", "<\\/");
    service
        .swagger_ui_html()
        .replacen(&service.spec(), &document, 1)
}

/// A body that is made at the first request and shared afterwards.
struct Static {
    content_type: &'static str,
    content: LazyLock<Tagged, Box<dyn FnOnce() -> Tagged + Send>>,
}

/// A body and its entity tag.
type Tagged = (Bytes, HeaderValue);

impl Static {
    fn new(content_type: &'static str, make: impl FnOnce() -> Vec<u8> + Send + 'static) -> Self {
        let make = move || {
            use sha2::Digest as _;
            let body = Bytes::from(make());
            let digest = sha2::Sha256::digest(&body);
            let tag = digest[..8]
                .iter()
                .fold(String::new(), |tag, byte| format!("{tag}{byte:02x}"));
            let tag = HeaderValue::try_from(format!("\"{tag}\""))
                .unwrap_or_else(|_| HeaderValue::from_static("\"\""));
            (body, tag)
        };
        Self {
            content_type,
            content: LazyLock::new(Box::new(make)),
        }
    }
}

impl Endpoint for Static {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        let (body, tag) = &*self.content;
        let response = Response::builder()
            .header(header::ETAG, tag)
            .header(header::CACHE_CONTROL, "no-cache");
        if request.headers().get(header::IF_NONE_MATCH) == Some(tag) {
            return Ok(response.status(StatusCode::NOT_MODIFIED).finish());
        }
        Ok(response.content_type(self.content_type).body(body.clone()))
    }
}

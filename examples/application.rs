//! A small web service that knows nothing of fullon: `fullon start -- application {socket}` runs it.
//! The argument is the path of the Unix socket to listen on.

use std::collections::BTreeMap;
use std::time::Duration;

use poem::http::HeaderMap;
use poem::listener::UnixListener;
use poem::web::{Json, Query};
use poem::{Body, Route, Server, get, handler, post};

#[handler]
fn index() -> &'static str {
    "release 1 of Rust"
}

#[derive(serde::Deserialize)]
struct Delay {
    ms: u64,
}

#[handler]
async fn slow(Query(Delay { ms }): Query<Delay>) -> String {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    format!("after {ms} ms")
}

#[handler]
fn echo(body: Body) -> Body {
    body
}

#[handler]
fn pid() -> String {
    std::process::id().to_string()
}

#[handler]
fn headers(headers: &HeaderMap) -> Json<BTreeMap<String, String>> {
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let pairs = headers.iter();
    Json(
        pairs
            .map(|(name, value)| (name.to_string(), text(value.as_bytes())))
            .collect(),
    )
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let path = std::env::args().nth(1).unwrap_or("application.sock".into());
    let routes = Route::new()
        .at("/", get(index))
        .at("/slow", get(slow))
        .at("/echo", post(echo))
        .at("/pid", get(pid))
        .at("/headers", get(headers));
    Server::new(UnixListener::bind(path)).run(routes).await
}

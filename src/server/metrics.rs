//! Figures in the text format of Prometheus, version 0.0.4.

use std::fmt::Write as _;
use std::sync::Arc;

use poem::{IntoResponse, Response};
use poem_openapi::ApiResponse;
use poem_openapi::registry::{MetaMediaType, MetaResponse, MetaResponses, Registry};
use poem_openapi::types::Type as _;

use super::clients::{Clients, Limit};
use super::refused_tokens::RefusedTokens;

const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// In the order of the clients.
const SERVERS: [&str; 2] = ["public", "admin"];

/// `200` with figures.
pub struct Metrics(pub String);

/// The figures of both servers' clients.
pub fn text(clients: &[Arc<Clients>; 2], refused: &RefusedTokens) -> String {
    let mut text = String::new();
    let mut per_server = |name: &str, kind: &str, help: &str, value: &dyn Fn(&Clients) -> u64| {
        head(&mut text, name, kind, help);
        for (server, clients) in SERVERS.iter().zip(clients) {
            let value = value(clients);
            // Writing to a string does not fail.
            let _ = writeln!(text, "{name}{{server=\"{server}\"}} {value}");
        }
    };
    per_server(
        "fullon_http_connections",
        "gauge",
        "Open connections.",
        &|clients| clients.usage().connections,
    );
    per_server(
        "fullon_http_connections_limit",
        "gauge",
        "Connections that there may be at once.",
        &|clients| clients.most() as u64,
    );
    per_server(
        "fullon_http_requests_in_flight",
        "gauge",
        "Requests whose answer has not begun.",
        &|clients| clients.usage().in_flight,
    );
    per_server(
        "fullon_http_received_requests_total",
        "counter",
        "Requests since the start.",
        &|clients| clients.usage().requests_total,
    );
    per_server(
        "fullon_http_accept_errors_total",
        "counter",
        "Connections that the system did not give us.",
        &|clients| clients.accept_errors(),
    );
    let name = "fullon_http_limit_hits_total";
    head(
        &mut text,
        name,
        "counter",
        "Clients that ran into a limit, by limit.",
    );
    for (server, clients) in SERVERS.iter().zip(clients) {
        for limit in Limit::ALL {
            let (limit, hits) = (limit.as_str(), clients.hits(limit));
            let _ = writeln!(
                text,
                "{name}{{server=\"{server}\",limit=\"{limit}\"}} {hits}"
            );
        }
    }
    let name = "fullon_admin_refused_tokens_total";
    head(
        &mut text,
        name,
        "counter",
        "Tokens and sessions that did not count.",
    );
    let _ = writeln!(text, "{name} {}", refused.total());
    text
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

impl IntoResponse for Metrics {
    fn into_response(self) -> Response {
        Response::builder().content_type(CONTENT_TYPE).body(self.0)
    }
}

impl ApiResponse for Metrics {
    fn meta() -> MetaResponses {
        MetaResponses {
            responses: vec![MetaResponse {
                description: "The figures.",
                status: Some(200),
                status_range: None,
                content: vec![MetaMediaType {
                    content_type: "text/plain",
                    schema: String::schema_ref(),
                }],
                headers: vec![],
            }],
        }
    }

    fn register(_: &mut Registry) {}
}

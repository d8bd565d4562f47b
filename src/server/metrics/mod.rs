//! Figures for Prometheus, in its text format 0.0.4. Names follow its conventions: base units, `_total` for counters.
//!
//! What a request does is counted while it is served (`requests`); all else is looked up when it is asked for (`gathered`).

mod families;
mod gathered;
mod requests;

use poem::{IntoResponse, Response};
use poem_openapi::ApiResponse;
use poem_openapi::registry::{MetaMediaType, MetaResponse, MetaResponses, Registry};
use poem_openapi::types::Type as _;
use prometheus::{IntCounter, TextEncoder};

use super::context::AdminState;
use requests::RequestMetrics;
pub use requests::{RequestSeries, RouteMetrics};

const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What is counted while the daemon lives.
#[derive(Debug)]
pub struct Metrics {
    requests: RequestMetrics,
    reloads: [IntCounter; 2],
    failed_restarts: IntCounter,
    disk: gathered::LogDisk,
}

impl Metrics {
    /// Nothing has happened yet.
    ///
    /// # Errors
    ///
    /// A name that Prometheus does not allow, which a test would have found.
    pub fn new() -> prometheus::Result<Self> {
        Self::with_requests(RequestMetrics::new(true)?)
    }

    /// Requests are not counted, so that a benchmark can tell what counting them costs.
    ///
    /// # Errors
    ///
    /// As of [`Metrics::new`].
    pub fn without_requests() -> prometheus::Result<Self> {
        Self::with_requests(RequestMetrics::new(false)?)
    }

    fn with_requests(requests: RequestMetrics) -> prometheus::Result<Self> {
        let counter = || IntCounter::new("total", "of a family that is named when it is shown");
        Ok(Self {
            requests,
            reloads: [counter()?, counter()?],
            failed_restarts: counter()?,
            disk: gathered::LogDisk::default(),
        })
    }

    /// Counts a reload that put settings in force, or none because they were not valid.
    pub fn count_reload(&self, is_done: bool) {
        self.reloads[usize::from(is_done)].inc();
    }

    /// Counts a restart after which this process went on.
    pub fn count_failed_restart(&self) {
        self.failed_restarts.inc();
    }

    /// Counts requests to the paths of one server. Of the paths in `below`, whatever comes after them is one route.
    pub fn routes(
        &self,
        server: &'static str,
        paths: impl IntoIterator<Item = String>,
        below: impl IntoIterator<Item = String>,
    ) -> RouteMetrics {
        self.requests.routes(server, paths, below)
    }
}

/// `200` with the figures of now.
pub struct MetricsText(String);

impl MetricsText {
    pub(super) async fn scrape(context: &AdminState) -> prometheus::Result<Self> {
        let mut families = gathered::scrape(context).await;
        families.extend(context.metrics.requests.collect());
        TextEncoder::new().encode_to_string(&families).map(Self)
    }
}

impl IntoResponse for MetricsText {
    fn into_response(self) -> Response {
        Response::builder().content_type(CONTENT_TYPE).body(self.0)
    }
}

impl ApiResponse for MetricsText {
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

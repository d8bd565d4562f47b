//! Requests by route, method and class of status, and how long their answers took to begin. Once a route has been asked for,
//! counting takes no lock.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::time::Duration;

use hyper::Method;
use prometheus::core::Collector as _;
use prometheus::proto::{Metric, MetricFamily};
use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts};

/// Upper bounds in seconds: an answer from memory takes 20 µs, and whoever waits for a successor 30 s.
const DURATION_BUCKETS: [f64; 15] = [
    0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
    30.0,
];
/// Methods that are told apart; all others are the last.
const METHODS: [&str; 8] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "other",
];
/// An answer of 1xx is not the last one.
const STATUS_CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];
/// The route of what no route is for, so that nobody makes series by asking for paths.
const OTHER_ROUTE: &str = "other";

/// All of a process.
#[derive(Debug)]
pub(super) struct RequestMetrics {
    is_enabled: bool,
    total: IntCounterVec,
    duration: HistogramVec,
}

impl RequestMetrics {
    pub fn new(are_counted: bool) -> prometheus::Result<Self> {
        let total = Opts::new(
            "fullon_http_requests_total",
            "Requests by the status of their answers; 4xx also when a client did not go on with what it had begun, 5xx also when a stop cut it off.",
        );
        let duration = HistogramOpts::new(
            "fullon_http_request_duration_seconds",
            "From the head of a request to the head of its answer.",
        );
        let labels = ["server", "route", "method", "status"];
        Ok(Self {
            is_enabled: are_counted,
            total: IntCounterVec::new(total, &labels)?,
            duration: HistogramVec::new(duration.buckets(DURATION_BUCKETS.to_vec()), &labels[..3])?,
        })
    }

    pub fn collect(&self) -> Vec<MetricFamily> {
        let mut families = self.total.collect();
        families.extend(self.duration.collect());
        // Until somebody has asked for something.
        families.retain(|family| !family.get_metric().is_empty());
        for family in &mut families {
            let labels = |metric: &Metric| -> Vec<String> {
                let pairs = metric.get_label().iter();
                pairs.map(|pair| pair.value().to_owned()).collect()
            };
            family.mut_metric().sort_by_cached_key(labels);
        }
        families
    }

    pub fn routes(
        &self,
        server: &'static str,
        paths: impl IntoIterator<Item = String>,
        below: impl IntoIterator<Item = String>,
    ) -> RouteMetrics {
        let route = |template: &str| Route {
            template: template.to_owned(),
            series: Default::default(),
        };
        let below = below.into_iter().map(|path| {
            let path = path.trim_end_matches('/').to_owned();
            let route = route(&format!("{path}/*"));
            (path, route)
        });
        let mut below: Vec<_> = below.collect();
        // As the router has it, the longest one counts.
        below.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        RouteMetrics {
            server,
            disabled: (!self.is_enabled).then_some(RequestSeries(None)),
            total: self.total.clone(),
            duration: self.duration.clone(),
            mounted: below,
            other: route(OTHER_ROUTE),
            exact: paths
                .into_iter()
                .map(|path| {
                    let route = route(&path);
                    (path, route)
                })
                .collect(),
        }
    }
}

/// The routes of one server.
#[derive(Debug)]
pub struct RouteMetrics {
    server: &'static str,
    /// In place of all others where nothing is counted.
    disabled: Option<RequestSeries>,
    total: IntCounterVec,
    duration: HistogramVec,
    exact: HashMap<String, Route>,
    mounted: Vec<(String, Route)>,
    other: Route,
}

#[derive(Debug)]
struct Route {
    template: String,
    series: [OnceLock<RequestSeries>; METHODS.len()],
}

impl RouteMetrics {
    /// Where requests with this method to this path are counted.
    pub fn series(&self, method: &Method, path: &str) -> &RequestSeries {
        if let Some(uncounted) = &self.disabled {
            return uncounted;
        }
        let name = method.as_str();
        let last = METHODS.len() - 1;
        let method = METHODS.iter().position(|known| *known == name);
        let route = self.exact.get(path).unwrap_or_else(|| {
            let is_below = |above: &str| {
                path.strip_prefix(above)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            let mounted = self.mounted.iter().find(|(above, _)| is_below(above));
            mounted.map_or(&self.other, |(_, route)| route)
        });
        self.get_or_create(route, method.unwrap_or(last))
    }

    /// Where it is counted what was no request.
    pub fn unparsed(&self) -> &RequestSeries {
        let other = || self.get_or_create(&self.other, METHODS.len() - 1);
        self.disabled.as_ref().unwrap_or_else(other)
    }

    fn get_or_create<'a>(&self, route: &'a Route, method: usize) -> &'a RequestSeries {
        route.series[method].get_or_init(|| {
            let labels = [self.server, &*route.template, METHODS[method]];
            let count = |class| {
                let [server, route, method] = labels;
                self.total
                    .with_label_values(&[server, route, method, class])
            };
            RequestSeries(Some(SeriesMetrics {
                classes: STATUS_CLASSES.map(count),
                duration: self.duration.with_label_values(&labels),
            }))
        })
    }
}

/// Requests to one route with one method.
#[derive(Debug)]
pub struct RequestSeries(Option<SeriesMetrics>);

#[derive(Debug)]
struct SeriesMetrics {
    classes: [IntCounter; STATUS_CLASSES.len()],
    duration: Histogram,
}

impl RequestSeries {
    /// Counts a request whose answer has this status and took so long to begin.
    pub fn observe(&self, status: u16, took: Duration) {
        let Some(figures) = &self.0 else {
            return;
        };
        let class = usize::from(status / 100).clamp(2, STATUS_CLASSES.len() + 1) - 2;
        figures.classes[class].inc();
        figures.duration.observe(took.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(requests: &RequestMetrics, labels: &[&str]) -> u64 {
        requests.total.with_label_values(labels).get()
    }

    #[test]
    fn unknown_paths_share_one_route() {
        let requests = RequestMetrics::new(true).unwrap();
        let paths = ["/".to_owned(), "/health".to_owned()];
        let routes = requests.routes(
            "public",
            paths,
            ["/shop/".to_owned(), "/shop/admin".to_owned()],
        );
        for (method, path, status) in [
            ("GET", "/health", 200),
            ("GET", "/shop", 200),
            ("GET", "/shop/7", 503),
            ("GET", "/shop/admin/7", 200),
            ("GET", "/shopping", 404),
            ("BREW", "/a-path-of-a-stranger", 405),
        ] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            routes
                .series(&method, path)
                .observe(status, Duration::from_millis(1));
        }
        routes.unparsed().observe(400, Duration::ZERO);
        for (labels, expected) in [
            (["public", "/health", "GET", "2xx"], 1),
            (["public", "/shop/*", "GET", "2xx"], 1),
            (["public", "/shop/*", "GET", "5xx"], 1),
            (["public", "/shop/admin/*", "GET", "2xx"], 1),
            (["public", "other", "GET", "4xx"], 1),
            (["public", "other", "other", "4xx"], 2),
            (["public", "/", "GET", "2xx"], 0),
        ] {
            assert_eq!(count(&requests, &labels), expected, "{labels:?}");
        }
        let text = prometheus::TextEncoder::new()
            .encode_to_string(&requests.collect())
            .unwrap();
        assert!(!text.contains("stranger"), "{text}");
    }

    #[test]
    fn disabled_metrics_have_no_series() {
        let requests = RequestMetrics::new(false).unwrap();
        let routes = requests.routes("public", ["/health".to_owned()], []);
        routes
            .series(&Method::GET, "/health")
            .observe(200, Duration::ZERO);
        routes.unparsed().observe(400, Duration::ZERO);
        assert!(requests.collect().is_empty());
    }
}

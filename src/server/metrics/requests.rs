//! Requests by route, method and status class, and the time until their response begins. Counting
//! takes no lock after the first request to a route.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::time::Duration;

use hyper::Method;
use prometheus::core::Collector as _;
use prometheus::proto::{Bucket, Metric, MetricFamily};
use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts};

use crate::api::{DurationBucket, RequestTotals};
use crate::server::path_template;

/// Upper bounds in seconds: a response from memory takes 20 µs, a restart up to 30 s.
const DURATION_BUCKETS: [f64; 15] = [
    0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
    30.0,
];
/// Methods that are counted separately. The last one stands for all others.
const METHODS: [&str; 8] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "other",
];
/// There is no 1xx: such a response is never the final one.
const STATUS_CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];
/// The route of all unknown paths, so that clients cannot create series by requesting random paths.
const OTHER_ROUTE: &str = "other";
/// The route of all paths of the application that the daemon runs.
const APPLICATION_ROUTE: &str = "app";
/// The routes of health checks begin with it.
const HEALTH_PREFIX: &str = "/health";

/// The request metrics of both servers.
#[derive(Debug)]
pub struct RequestMetrics {
    is_enabled: bool,
    total: IntCounterVec,
    duration: HistogramVec,
}

impl RequestMetrics {
    pub fn new(is_enabled: bool) -> prometheus::Result<Self> {
        let total = Opts::new(
            "fullon_http_requests_total",
            "Requests by status class of the response. Requests that the client aborted are 4xx; requests that a stop aborted are 5xx.",
        );
        let duration = HistogramOpts::new(
            "fullon_http_request_duration_seconds",
            "Time from the request headers to the response headers in seconds.",
        );
        let labels = ["server", "route", "method", "status"];
        Ok(Self {
            is_enabled,
            total: IntCounterVec::new(total, &labels)?,
            duration: HistogramVec::new(duration.buckets(DURATION_BUCKETS.to_vec()), &labels[..3])?,
        })
    }

    /// The families, which have no series before the first request.
    pub fn collect(&self) -> Vec<MetricFamily> {
        let mut families = self.total.collect();
        families.extend(self.duration.collect());
        for family in &mut families {
            let labels = |metric: &Metric| -> Vec<String> {
                let pairs = metric.get_label().iter();
                pairs.map(|pair| pair.value().to_owned()).collect()
            };
            family.mut_metric().sort_by_cached_key(labels);
        }
        families
    }

    /// The requests of one server.
    pub fn totals(&self, server: &str) -> RequestTotals {
        let mut totals = RequestTotals::default();
        let label = |metric: &Metric, name: &str| {
            let mut pairs = metric.get_label().iter();
            let pair = pairs.find(|pair| pair.name() == name);
            pair.map_or_else(String::new, |pair| pair.value().to_owned())
        };
        let of_server = |families: Vec<MetricFamily>| {
            let metrics = families.into_iter().flat_map(|mut it| it.take_metric());
            let metrics = metrics.filter(|metric| label(metric, "server") == server);
            metrics.collect::<Vec<_>>()
        };
        for metric in of_server(self.total.collect()) {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "the crate has counted a whole number"
            )]
            let count = metric.get_counter().get_value() as u64;
            totals.total += count;
            if !label(&metric, "route").starts_with(HEALTH_PREFIX) {
                totals.without_health += count;
                if label(&metric, "status") == "5xx" {
                    totals.errors += count;
                }
            }
        }
        let bounds = DURATION_BUCKETS.iter().copied().map(Some).chain([None]);
        totals.durations = bounds
            .map(|up_to_seconds| DurationBucket {
                up_to_seconds,
                count: 0,
            })
            .collect();
        for metric in of_server(self.duration.collect()) {
            let histogram = metric.get_histogram();
            let buckets = histogram.get_bucket().iter();
            let counts = buckets.map(Bucket::cumulative_count);
            let counts = counts.chain([histogram.get_sample_count()]);
            for (bucket, count) in totals.durations.iter_mut().zip(counts) {
                bucket.count += count;
            }
        }
        totals
    }

    /// Counts requests to the paths of one server. All paths below one in `mounted` are one route.
    pub fn routes(
        &self,
        server: &'static str,
        paths: impl IntoIterator<Item = String>,
        mounted: impl IntoIterator<Item = String>,
    ) -> RouteMetrics {
        let route = |template: &str| Route {
            template: template.to_owned(),
            series: Default::default(),
        };
        let mounted = mounted.into_iter().map(|path| {
            let path = path.trim_end_matches('/').to_owned();
            let route = route(&format!("{path}/*"));
            (path, route)
        });
        let mut mounted: Vec<_> = mounted.collect();
        // The longest prefix wins, as in the router.
        mounted.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        RouteMetrics {
            server,
            disabled: (!self.is_enabled).then_some(RequestSeries(None)),
            total: self.total.clone(),
            duration: self.duration.clone(),
            mounted,
            other: route(OTHER_ROUTE),
            application: route(APPLICATION_ROUTE),
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
    /// Replaces all other series when requests are not counted.
    disabled: Option<RequestSeries>,
    total: IntCounterVec,
    duration: HistogramVec,
    exact: HashMap<String, Route>,
    mounted: Vec<(String, Route)>,
    other: Route,
    application: Route,
}

#[derive(Debug)]
struct Route {
    template: String,
    series: [OnceLock<RequestSeries>; METHODS.len()],
}

impl RouteMetrics {
    /// The series of requests with this method to this path.
    pub fn series(&self, method: &Method, path: &str) -> &RequestSeries {
        if let Some(disabled) = &self.disabled {
            return disabled;
        }
        let with_parameter = || {
            let mut routes = self.exact.values();
            routes.find(|route| path_template::matches(&route.template, path))
        };
        let route = self.exact.get(path).or_else(with_parameter);
        let route = route.unwrap_or_else(|| {
            let is_below = |prefix: &str| {
                path.strip_prefix(prefix)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            let mounted = self.mounted.iter().find(|(prefix, _)| is_below(prefix));
            mounted.map_or(&self.other, |(_, route)| route)
        });
        self.get_or_create(route, method_index(method))
    }

    /// The series of requests with this method to the application that the daemon runs.
    pub fn application(&self, method: &Method) -> &RequestSeries {
        let application = || self.get_or_create(&self.application, method_index(method));
        self.disabled.as_ref().unwrap_or_else(application)
    }

    /// The series of input that is not a valid request.
    pub fn unparsed(&self) -> &RequestSeries {
        let other = || self.get_or_create(&self.other, METHODS.len() - 1);
        self.disabled.as_ref().unwrap_or_else(other)
    }

    fn get_or_create<'a>(&self, route: &'a Route, method: usize) -> &'a RequestSeries {
        route.series[method].get_or_init(|| {
            let labels = [self.server, &*route.template, METHODS[method]];
            let counter = |class| {
                let [server, route, method] = labels;
                self.total
                    .with_label_values(&[server, route, method, class])
            };
            RequestSeries(Some(SeriesMetrics {
                classes: STATUS_CLASSES.map(counter),
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
    /// Counts a request with the status of its response and the time until that began.
    pub fn observe(&self, status: u16, elapsed: Duration) {
        let Some(metrics) = &self.0 else {
            return;
        };
        let class = usize::from(status / 100).clamp(2, STATUS_CLASSES.len() + 1) - 2;
        metrics.classes[class].inc();
        metrics.duration.observe(elapsed.as_secs_f64());
    }
}

/// The place of a method in [`METHODS`].
fn method_index(method: &Method) -> usize {
    let known = METHODS.iter().position(|known| *known == method.as_str());
    known.unwrap_or(METHODS.len() - 1)
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
            ("BREW", "/unknown-path", 405),
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
        assert!(!text.contains("unknown-path"), "{text}");
    }

    #[test]
    fn totals_are_those_of_one_server() {
        let requests = RequestMetrics::new(true).unwrap();
        for server in ["public", "admin"] {
            let paths = ["/".to_owned(), "/health/live".to_owned()];
            let routes = requests.routes(server, paths, []);
            for (path, status, milliseconds) in [
                ("/", 200, 0),
                ("/", 503, 2),
                ("/nothing", 404, 2),
                ("/health/live", 200, 0),
                ("/health/live", 503, 60_000),
            ] {
                let series = routes.series(&Method::GET, path);
                series.observe(status, Duration::from_millis(milliseconds));
            }
        }
        let totals = requests.totals("public");
        let numbers = (totals.total, totals.without_health, totals.errors);
        assert_eq!(numbers, (5, 3, 1));
        let durations = totals.durations.iter();
        let durations = durations.map(|it| (it.up_to_seconds, it.count));
        let durations: Vec<_> = durations.collect();
        assert_eq!(durations.len(), DURATION_BUCKETS.len() + 1);
        for bucket in [
            (Some(0.0001), 2),
            (Some(0.001), 2),
            (Some(0.0025), 4),
            (Some(30.0), 4),
            (None, 5),
        ] {
            assert!(durations.contains(&bucket), "{bucket:?} in {durations:?}");
        }
        assert_eq!(requests.totals("other").total, 0);
    }

    #[test]
    fn disabled_metrics_have_no_series() {
        let requests = RequestMetrics::new(false).unwrap();
        let routes = requests.routes("public", ["/health".to_owned()], []);
        routes
            .series(&Method::GET, "/health")
            .observe(200, Duration::ZERO);
        routes.unparsed().observe(400, Duration::ZERO);
        let families = requests.collect();
        assert!(families.iter().all(|family| family.get_metric().is_empty()));
    }
}

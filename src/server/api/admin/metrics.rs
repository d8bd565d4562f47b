//! Metrics in the text format of Prometheus, version 0.0.4.
//!
//! A metric that can be looked up needs one entry in a function below. One that counts events also
//! needs a counter in [`Metrics`](crate::server::metrics::Metrics).

use std::fs::File;
use std::io;
use std::sync::Arc;

use poem::{IntoResponse, Response};
use poem_openapi::registry::{MetaMediaType, MetaResponse, MetaResponses, Registry};
use poem_openapi::types::Type as _;
use poem_openapi::{ApiResponse, OpenApi};
use prometheus::TextEncoder;
use prometheus::proto::MetricFamily;
use tokio::task::spawn_blocking;

use super::state::{AdminState, StateHandle};
use super::tag::AdminTag;
use crate::api::{ProcessUsage, VERSION};
use crate::health::{CheckState, Phase};
use crate::server::auth::{Auth, Read};
use crate::server::http::compress::Compressible;
use crate::server::http::problem::{ApiError, Result};
use crate::server::limits::LimitKind;
use crate::server::metrics::{Family, MetricFamilies};
use crate::server::openapi::Operation;
use crate::server::pool::ConnectionPool;
use crate::server::process_usage;
use crate::sys;

pub const OPERATIONS: [Operation; 1] = [Operation::query("get_metrics", &[])];

const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub struct MetricsApi(pub StateHandle);

#[OpenApi]
impl MetricsApi {
    /// Get the metrics for Prometheus.
    ///
    /// Returns all metrics in the text format of Prometheus, version 0.0.4.
    #[oai(
        path = "/admin/metrics",
        method = "get",
        operation_id = "get_metrics",
        tag = "AdminTag::Daemon"
    )]
    async fn metrics(&self, _caller: Auth<Read>) -> Result<Compressible<MetricsText>> {
        let families = collect(self.0.get()?).await;
        let text = TextEncoder::new().encode_to_string(&families);
        text.map(|text| Compressible(MetricsText(text)))
            .map_err(|error| ApiError::internal(&error))
    }
}

/// `200` with the metrics as text.
struct MetricsText(String);

impl IntoResponse for MetricsText {
    fn into_response(self) -> Response {
        Response::builder().content_type(CONTENT_TYPE).body(self.0)
    }
}

impl ApiResponse for MetricsText {
    fn meta() -> MetaResponses {
        MetaResponses {
            responses: vec![MetaResponse {
                description: "The metrics in the text format of Prometheus.",
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

/// All families in the order in which they are shown.
async fn collect(state: &Arc<AdminState>) -> Vec<MetricFamily> {
    let usage = spawn_blocking(process_usage::read)
        .await
        .unwrap_or_default();
    let free_disk = match &state.log {
        Some(log) => state.metrics.disk.free_bytes(log.path()).await,
        None => None,
    };
    let totals = Arc::clone(state);
    let families = spawn_blocking(move || total_families(&totals, &usage, free_disk));
    families.await.unwrap_or_default()
}

/// Adds the counters of this process to those of all processes, if it shares them. May wait for
/// another process.
pub fn pass_counters_on(state: &AdminState) {
    total_families(state, &ProcessUsage::default(), None);
}

/// Shares the counters with a new process. Returns the file for it.
///
/// # Errors
///
/// There is no memory, or no descriptor is free.
pub fn share_counters(state: &AdminState) -> io::Result<File> {
    let file = state.metrics.totals.share()?;
    pass_counters_on(state);
    Ok(file)
}

/// All families, with the counters of all processes of the daemon.
fn total_families(
    state: &AdminState,
    usage: &ProcessUsage,
    free_disk: Option<u64>,
) -> Vec<MetricFamily> {
    let mut families = MetricFamilies::default();
    lifecycle(state, &mut families);
    process(state, usage, &mut families);
    connections(state, &mut families);
    log(state, free_disk, &mut families);
    checks(state, &mut families);
    application(state, &mut families);
    let mut families = families.into_families();
    families.extend(state.metrics.requests.collect());
    state.metrics.totals.update(&mut families);
    families.retain(|family| !family.get_metric().is_empty());
    families
}

fn lifecycle(state: &AdminState, families: &mut MetricFamilies) {
    families
        .labelled_gauge(
            "fullon_build_info",
            "Version of the running program. The value is always 1.",
        )
        .add(&[("version", VERSION)], true);
    let now = state.health.phase();
    let mut phase = families.labelled_gauge(
        "fullon_phase",
        "Phase of the process: 1 for the current phase, 0 for the others.",
    );
    for (name, each) in [
        ("starting", Phase::Starting),
        ("ready", Phase::Ready),
        ("draining", Phase::Draining),
    ] {
        phase.add(&[("phase", name)], each == now);
    }
    families.gauge(
        "fullon_uptime_seconds",
        "Seconds since the start of the process.",
        state.started.elapsed().as_secs_f64(),
    );
    families.counter(
        "fullon_restarts_total",
        "Zero-downtime restarts since the first start.",
        u64::from(state.generation.saturating_sub(1)),
    );
    families.counter(
        "fullon_failed_restarts_total",
        "Failed restarts, after which the process continued as before.",
        &state.metrics.failed_restarts,
    );
    families
        .labelled_counter(
            "fullon_reloads_total",
            "Settings reloads by outcome: done, or refused because a setting is invalid.",
        )
        .add(&[("outcome", "done")], &state.metrics.successful_reloads)
        .add(&[("outcome", "refused")], &state.metrics.refused_reloads);
}

fn process(state: &AdminState, usage: &ProcessUsage, families: &mut MetricFamilies) {
    families.counter(
        "process_cpu_seconds_total",
        "Total user and system CPU time in seconds.",
        usage.cpu_seconds,
    );
    families.gauge(
        "process_resident_memory_bytes",
        "Resident memory size in bytes.",
        usage.rss_bytes,
    );
    families.gauge(
        "process_open_fds",
        "Number of open file descriptors.",
        usage.open_files,
    );
    families.gauge(
        "process_max_fds",
        "Maximum number of open file descriptors.",
        sys::fd_limit(),
    );
    families.gauge("process_threads", "Number of threads.", usage.threads);
    families.gauge(
        "process_start_time_seconds",
        "Start time of the process since the Unix epoch in seconds.",
        state.started_at.as_duration().as_secs_f64(),
    );
}

fn connections(state: &AdminState, families: &mut MetricFamilies) {
    let servers = || state.connections.named();
    let per_server = |mut family: Family<'_>, value: fn(&ConnectionPool) -> u64| {
        for (server, pool) in servers() {
            family.add(&[("server", server)], value(pool));
        }
    };
    per_server(
        families.labelled_gauge("fullon_http_connections", "Number of open connections."),
        |pool| pool.usage().connections,
    );
    per_server(
        families.labelled_gauge(
            "fullon_http_connections_limit",
            "Maximum number of open connections.",
        ),
        |pool| pool.max() as u64,
    );
    per_server(
        families.labelled_gauge(
            "fullon_http_requests_in_flight",
            "Number of requests whose response has not begun.",
        ),
        |pool| pool.stats.in_flight(),
    );
    per_server(
        families.labelled_counter(
            "fullon_http_accept_errors_total",
            "Errors of the system when accepting a connection.",
        ),
        |pool| pool.stats.accept_errors(),
    );
    let mut hits = families.labelled_counter(
        "fullon_http_limit_hits_total",
        "Requests and connections that reached a limit, by limit.",
    );
    for (server, pool) in servers() {
        for limit in LimitKind::ALL {
            let labels = [("server", server), ("limit", limit.as_str())];
            hits.add(&labels, pool.stats.limit_hits(limit));
        }
    }
    families.counter(
        "fullon_admin_refused_tokens_total",
        "Rejected tokens and sessions: invalid or expired.",
        state.auth.failure_limiter.total(),
    );
}

fn log(state: &AdminState, free_disk: Option<u64>, families: &mut MetricFamilies) {
    let mut events =
        families.labelled_counter("fullon_log_events_total", "Logged events by level.");
    for (level, count) in state.log_level.events() {
        events.add(&[("level", level)], count);
    }
    families.counter(
        "fullon_audit_events_total",
        "Events of the audit trail: changes that were accepted, refused, or failed.",
        state.log_level.audit_event_count(),
    );
    let audit = state.audit.status();
    families.gauge(
        "fullon_audit_waiting_records",
        "Audit records in memory, because the audit file cannot be written.",
        audit.as_ref().map(|audit| audit.waiting as u64),
    );
    families.counter(
        "fullon_audit_lost_records_total",
        "Audit records that could not be written. The audit trail has a record where they are missing.",
        audit.as_ref().map(|audit| audit.lost),
    );
    let Some(log) = &state.log else {
        return;
    };
    families.gauge(
        "fullon_log_followers",
        "Number of clients that follow the log.",
        log.follower_count(),
    );
    families.gauge(
        "fullon_log_disk_free_bytes",
        "Free space in bytes on the file system of the log file.",
        free_disk,
    );
    let Some(file) = state.health.log() else {
        return;
    };
    let figures = file.stats();
    families.counter(
        "fullon_log_written_bytes_total",
        "Bytes written to the log file.",
        figures.bytes_written,
    );
    families.counter(
        "fullon_log_lost_lines_total",
        "Log lines that could not be written. The log has an event where lines are missing.",
        figures.dropped_lines,
    );
    families.counter(
        "fullon_log_rotations_total",
        "Rotations of the log file by the daemon.",
        figures.rotations,
    );
}

fn checks(state: &AdminState, families: &mut MetricFamilies) {
    let mut up = families.labelled_gauge(
        "fullon_check_up",
        "State of a health check: 1 is up, 0 is down. Absent before the first probe.",
    );
    for check in state.health.checks() {
        let is_up = (check.state != CheckState::Unknown).then_some(check.state == CheckState::Up);
        up.add(&[("check", &check.name)], is_up);
    }
    let dependencies = state.health.dependency_metrics();
    let mut probes = families.labelled_counter(
        "fullon_check_probes_total",
        "Probes of a dependency by outcome: ok, error or timeout.",
    );
    for each in &dependencies {
        for (outcome, count) in [
            ("ok", each.ok),
            ("error", each.error),
            ("timeout", each.timeout),
        ] {
            probes.add(&[("check", each.name), ("outcome", outcome)], count);
        }
    }
    let mut latency = families.labelled_gauge(
        "fullon_check_latency_seconds",
        "Duration in seconds of the last probe that was answered.",
    );
    for each in &dependencies {
        let took = each.latency.map(|latency| latency.as_secs_f64());
        latency.add(&[("check", each.name)], took);
    }
}

/// Requests to the application. Labels have no path and no process, so that restarts and clients
/// create no series.
fn application(state: &AdminState, families: &mut MetricFamilies) {
    let Some(proxy) = state.metrics.application.get() else {
        return;
    };
    let mut requests = families.labelled_counter(
        "fullon_app_requests_total",
        "Responses of the application by status class. 1xx begins a WebSocket.",
    );
    for (class, count) in proxy.stats().responses() {
        requests.add(&[("class", class)], count);
    }
    let mut errors = families.labelled_counter(
        "fullon_app_errors_total",
        "Requests without a whole response of the application, by reason: no_worker, broken, timeout or truncated.",
    );
    for (reason, count) in proxy.stats().errors() {
        errors.add(&[("reason", reason)], count);
    }
    families.counter(
        "fullon_app_retries_total",
        "Requests that were sent to the application again.",
        proxy.stats().retries(),
    );
}

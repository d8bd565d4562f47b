//! What is looked up when it is asked for.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use prometheus::proto::MetricFamily;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use super::super::clients::{ConnectionPool, LimitKind};
use super::super::context::AdminState;
use super::super::usage;
use super::families::MetricFamilies;
use crate::api::{CheckState, Phase, ProcessUsage, VERSION};

/// In the order of the clients.
const SERVERS: [&str; 2] = ["public", "admin"];

/// How long a disk may take to say how much room it has.
const DISK_TIMEOUT: Duration = Duration::from_secs(1);

pub async fn scrape(context: &AdminState) -> Vec<MetricFamily> {
    let usage = spawn_blocking(usage::read).await.unwrap_or_default();
    let free_disk = match &context.log {
        Some(log) => context.metrics.disk.free_bytes(log.path()).await,
        None => None,
    };
    let mut families = MetricFamilies::default();
    lifecycle(context, &mut families);
    process(context, &usage, &mut families);
    connections(context, &mut families);
    log(context, free_disk, &mut families);
    checks(context, &mut families);
    families.into_families()
}

fn lifecycle(context: &AdminState, families: &mut MetricFamilies) {
    families
        .gauge("fullon_build_info", "The program that runs; always 1.")
        .add(&[("version", VERSION)], true);
    let now = context.health.phase();
    let mut phase = families.gauge("fullon_phase", "1 for the phase of the process.");
    for (name, each) in [
        ("starting", Phase::Starting),
        ("ready", Phase::Ready),
        ("draining", Phase::Draining),
    ] {
        phase.add(&[("phase", name)], each == now);
    }
    families
        .gauge("fullon_uptime_seconds", "Since the process started.")
        .set(context.started.elapsed().as_secs_f64());
    families
        .counter(
            "fullon_restarts_total",
            "Processes that were replaced without a gap since the first start.",
        )
        .set(u64::from(context.generation.saturating_sub(1)));
    families
        .counter(
            "fullon_failed_restarts_total",
            "Restarts after which this process went on.",
        )
        .set(context.metrics.failed_restarts.get());
    let [refused, done] = &context.metrics.reloads;
    families
        .counter("fullon_reloads_total", "Reloads by what became of them.")
        .add(&[("outcome", "done")], done.get())
        .add(&[("outcome", "refused")], refused.get());
}

/// The log's disk. One that hangs, as a network's may, keeps one thread and no scrape.
#[derive(Debug, Default)]
pub struct LogDisk(Arc<Mutex<()>>);

impl LogDisk {
    /// Its room for this user, in bytes, if it says so in time.
    async fn free_bytes(&self, log: &Path) -> Option<u64> {
        let log = log.to_owned();
        let answer = async {
            let turn = Arc::clone(&self.0).lock_owned().await;
            let asked = spawn_blocking(move || {
                let _turn = turn;
                usage::free_disk_bytes(&log)
            });
            asked.await.ok().flatten()
        };
        tokio::time::timeout(DISK_TIMEOUT, answer).await.ok()?
    }
}

fn process(context: &AdminState, usage: &ProcessUsage, families: &mut MetricFamilies) {
    families
        .counter(
            "process_cpu_seconds_total",
            "Processor time used, in user and system mode.",
        )
        .set(usage.cpu_seconds);
    families
        .gauge("process_resident_memory_bytes", "Resident memory.")
        .set(usage.rss_bytes);
    families
        .gauge("process_open_fds", "Open file descriptors.")
        .set(usage.open_files);
    if let Some(most) = usage::max_open_files() {
        families
            .gauge(
                "process_max_fds",
                "File descriptors that there may be at once.",
            )
            .set(most);
    }
    families
        .gauge("process_threads", "Threads.")
        .set(usage.threads);
    families
        .gauge(
            "process_start_time_seconds",
            "When the process started, since 1970.",
        )
        .set(context.started_at.as_duration().as_secs_f64());
}

fn connections(context: &AdminState, families: &mut MetricFamilies) {
    let both = || SERVERS.into_iter().zip(&context.connections);
    let mut gauge = |name, help, value: fn(&ConnectionPool) -> u64| {
        let mut family = families.gauge(name, help);
        for (server, clients) in both() {
            family.add(&[("server", server)], value(clients));
        }
    };
    gauge("fullon_http_connections", "Open connections.", |clients| {
        clients.usage().connections
    });
    gauge(
        "fullon_http_connections_limit",
        "Connections that there may be at once.",
        |clients| clients.max() as u64,
    );
    gauge(
        "fullon_http_requests_in_flight",
        "Requests whose answer has not begun.",
        ConnectionPool::in_flight,
    );
    let mut errors = families.counter(
        "fullon_http_accept_errors_total",
        "Connections that the system did not give us.",
    );
    for (server, clients) in both() {
        errors.add(&[("server", server)], clients.accept_errors());
    }
    let mut hits = families.counter(
        "fullon_http_limit_hits_total",
        "Clients that ran into a limit, by limit.",
    );
    for (server, clients) in both() {
        for limit in LimitKind::ALL {
            let labels = [("server", server), ("limit", limit.as_str())];
            hits.add(&labels, clients.limit_hits(limit));
        }
    }
    families
        .counter(
            "fullon_admin_refused_tokens_total",
            "Tokens and sessions that did not count.",
        )
        .set(context.auth.failure_limiter.total());
}

fn log(context: &AdminState, free_disk: Option<u64>, families: &mut MetricFamilies) {
    let mut events = families.counter(
        "fullon_log_events_total",
        "Events that passed the filter of the log, by level.",
    );
    for (level, count) in context.log_level.events() {
        events.add(&[("level", level)], count);
    }
    families
        .counter(
            "fullon_audit_events_total",
            "Events of the audit trail: changes that were asked for, refused, or failed.",
        )
        .set(context.log_level.audit_event_count());
    let Some(log) = &context.log else {
        return;
    };
    families
        .gauge("fullon_log_followers", "Clients that follow the log.")
        .set(log.follower_count());
    if let Some(free) = free_disk {
        families
            .gauge(
                "fullon_log_disk_free_bytes",
                "Room on the log's disk for this user.",
            )
            .set(free);
    }
    let Some(file) = context.health.log() else {
        return;
    };
    let figures = file.stats();
    families
        .counter("fullon_log_written_bytes_total", "Bytes in the log file.")
        .set(figures.bytes_written);
    families
        .counter(
            "fullon_log_lost_lines_total",
            "Lines that are missing from the log file, which says where.",
        )
        .set(figures.dropped_lines);
    families
        .counter("fullon_log_rotations_total", "Rotations by this process.")
        .set(figures.rotations);
}

fn checks(context: &AdminState, families: &mut MetricFamilies) {
    let mut up = families.gauge(
        "fullon_check_up",
        "Whether what the service depends on works.",
    );
    for check in context.health.checks() {
        if check.state != CheckState::Unknown {
            up.add(&[("check", &check.name)], check.state == CheckState::Up);
        }
    }
    let dependencies = context.health.dependency_metrics();
    let mut probes = families.counter(
        "fullon_check_probes_total",
        "Probes of a dependency, by what became of them.",
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
    let mut latency = families.gauge(
        "fullon_check_latency_seconds",
        "How long the last probe took that was answered.",
    );
    for each in &dependencies {
        if let Some(took) = each.latency {
            latency.add(&[("check", each.name)], took.as_secs_f64());
        }
    }
}

//! What is looked up when it is asked for.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use prometheus::proto::MetricFamily;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use super::super::clients::{Clients, Limit};
use super::super::context::Context;
use super::super::usage;
use super::families::Families;
use crate::api::{CheckState, Phase, ProcessUsage, VERSION};

/// In the order of the clients.
const SERVERS: [&str; 2] = ["public", "admin"];

/// How long a disk may take to say how much room it has.
const DISK_TIMEOUT: Duration = Duration::from_secs(1);

pub async fn families(context: &Context) -> Vec<MetricFamily> {
    let usage = spawn_blocking(usage::read).await.unwrap_or_default();
    let free_disk = match &context.log {
        Some(log) => context.metrics.disk.free(log.path()).await,
        None => None,
    };
    let mut families = Families::default();
    life(context, &mut families);
    process(context, &usage, &mut families);
    clients(context, &mut families);
    log(context, free_disk, &mut families);
    checks(context, &mut families);
    families.finish()
}

fn life(context: &Context, families: &mut Families) {
    families
        .gauge("fullon_build_info", "The program that runs; always 1.")
        .has(&[("version", VERSION)], true);
    let now = context.health.phase();
    let mut phase = families.gauge("fullon_phase", "1 for the phase of the process.");
    for (name, each) in [
        ("starting", Phase::Starting),
        ("ready", Phase::Ready),
        ("draining", Phase::Draining),
    ] {
        phase.has(&[("phase", name)], each == now);
    }
    families
        .gauge("fullon_uptime_seconds", "Since the process started.")
        .is(context.started.elapsed().as_secs_f64());
    families
        .counter(
            "fullon_restarts_total",
            "Processes that were replaced without a gap since the first start.",
        )
        .is(u64::from(context.generation.saturating_sub(1)));
    families
        .counter(
            "fullon_failed_restarts_total",
            "Restarts after which this process went on.",
        )
        .is(context.metrics.failed_restarts.get());
    let [refused, done] = &context.metrics.reloads;
    families
        .counter("fullon_reloads_total", "Reloads by what became of them.")
        .has(&[("outcome", "done")], done.get())
        .has(&[("outcome", "refused")], refused.get());
}

/// The log's disk. One that hangs, as a network's may, keeps one thread and no scrape.
#[derive(Debug, Default)]
pub struct Disk(Arc<Mutex<()>>);

impl Disk {
    /// Its room for this user, in bytes, if it says so in time.
    async fn free(&self, log: &Path) -> Option<u64> {
        let log = log.to_owned();
        let answer = async {
            let turn = Arc::clone(&self.0).lock_owned().await;
            let asked = spawn_blocking(move || {
                let _turn = turn;
                usage::free_disk(&log)
            });
            asked.await.ok().flatten()
        };
        tokio::time::timeout(DISK_TIMEOUT, answer).await.ok()?
    }
}

fn process(context: &Context, usage: &ProcessUsage, families: &mut Families) {
    families
        .counter(
            "process_cpu_seconds_total",
            "Processor time used, in user and system mode.",
        )
        .is(usage.cpu_seconds);
    families
        .gauge("process_resident_memory_bytes", "Resident memory.")
        .is(usage.rss_bytes);
    families
        .gauge("process_open_fds", "Open file descriptors.")
        .is(usage.open_files);
    if let Some(most) = usage::most_descriptors() {
        families
            .gauge(
                "process_max_fds",
                "File descriptors that there may be at once.",
            )
            .is(most);
    }
    families
        .gauge("process_threads", "Threads.")
        .is(usage.threads);
    families
        .gauge(
            "process_start_time_seconds",
            "When the process started, since 1970.",
        )
        .is(context.started_at.as_duration().as_secs_f64());
}

fn clients(context: &Context, families: &mut Families) {
    let both = || SERVERS.into_iter().zip(&context.clients);
    let mut gauge = |name, help, value: fn(&Clients) -> u64| {
        let mut family = families.gauge(name, help);
        for (server, clients) in both() {
            family.has(&[("server", server)], value(clients));
        }
    };
    gauge("fullon_http_connections", "Open connections.", |clients| {
        clients.usage().connections
    });
    gauge(
        "fullon_http_connections_limit",
        "Connections that there may be at once.",
        |clients| clients.most() as u64,
    );
    gauge(
        "fullon_http_requests_in_flight",
        "Requests whose answer has not begun.",
        Clients::in_flight,
    );
    let mut errors = families.counter(
        "fullon_http_accept_errors_total",
        "Connections that the system did not give us.",
    );
    for (server, clients) in both() {
        errors.has(&[("server", server)], clients.accept_errors());
    }
    let mut hits = families.counter(
        "fullon_http_limit_hits_total",
        "Clients that ran into a limit, by limit.",
    );
    for (server, clients) in both() {
        for limit in Limit::ALL {
            let labels = [("server", server), ("limit", limit.as_str())];
            hits.has(&labels, clients.hits(limit));
        }
    }
    families
        .counter(
            "fullon_admin_refused_tokens_total",
            "Tokens and sessions that did not count.",
        )
        .is(context.gate.refused.total());
}

fn log(context: &Context, free_disk: Option<u64>, families: &mut Families) {
    let mut events = families.counter(
        "fullon_log_events_total",
        "Events that passed the filter of the log, by level.",
    );
    for (level, count) in context.level.events() {
        events.has(&[("level", level)], count);
    }
    families
        .counter(
            "fullon_audit_events_total",
            "Events of the audit trail: changes that were asked for, refused, or failed.",
        )
        .is(context.level.audit_events());
    let Some(log) = &context.log else {
        return;
    };
    families
        .gauge("fullon_log_followers", "Clients that follow the log.")
        .is(log.followers());
    if let Some(free) = free_disk {
        families
            .gauge(
                "fullon_log_disk_free_bytes",
                "Room on the log's disk for this user.",
            )
            .is(free);
    }
    let Some(file) = context.health.log() else {
        return;
    };
    let figures = file.figures();
    families
        .counter("fullon_log_written_bytes_total", "Bytes in the log file.")
        .is(figures.bytes);
    families
        .counter(
            "fullon_log_lost_lines_total",
            "Lines that are missing from the log file, which says where.",
        )
        .is(figures.lost);
    families
        .counter("fullon_log_rotations_total", "Rotations by this process.")
        .is(figures.rotations);
}

fn checks(context: &Context, families: &mut Families) {
    let mut up = families.gauge(
        "fullon_check_up",
        "Whether what the service depends on works.",
    );
    for check in context.health.checks() {
        if check.state != CheckState::Unknown {
            up.has(&[("check", &check.name)], check.state == CheckState::Up);
        }
    }
    let dependencies = context.health.dependencies();
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
            probes.has(&[("check", each.name), ("outcome", outcome)], count);
        }
    }
    let mut latency = families.gauge(
        "fullon_check_latency_seconds",
        "How long the last probe took that was answered.",
    );
    for each in &dependencies {
        if let Some(took) = each.latency {
            latency.has(&[("check", each.name)], took.as_secs_f64());
        }
    }
}

//! `/admin/metrics` as Prometheus reads it, and the shipped dashboard and alerts.

mod dashboard;
mod prometheus;
mod restarts;
mod scraper;

use crate::support::{Connection, Dependency as _, Home, Redis, eventually, request};

const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy");

fn exposition(home: &Home) -> String {
    let answer = home.call_admin("GET", "/admin/metrics");
    assert_eq!(answer.status, 200, "{answer:#?}");
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    answer.body
}

/// The value of the line with these labels, in any order. `None` if there is none.
fn value(exposition: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let has_labels = |line: &str| {
        let has = |(name, value): &(&str, &str)| line.contains(&format!("{name}=\"{value}\""));
        labels.iter().all(has)
    };
    let is_it = |line: &&str| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(['{', ' ']) && has_labels(rest))
    };
    let line = exposition.lines().find(is_it)?;
    Some(line.rsplit(' ').next()?.parse().unwrap())
}

fn assert_value(exposition: &str, name: &str, labels: &[(&str, &str)], expected: f64) {
    let found = value(exposition, name, labels);
    assert_eq!(found, Some(expected), "{name} {labels:?} in {exposition}");
}

/// Causes everything that is counted.
fn start_busy_daemon() -> (Home, Redis) {
    let mut home = Home::new();
    let redis = Redis::start();
    home.depends_on(&redis);
    home.set("LOG_MAX_SIZE", "64KiB");
    home.run(["start"]).succeeds();
    let public = home.public_address();
    eventually("Redis has answered", || {
        request(&public, "GET", "/health", &[], "").status == 200
    });
    for _ in 0..3 {
        assert_eq!(request(&public, "GET", "/", &[], "").status, 200);
    }
    assert_eq!(request(&public, "HEAD", "/health", &[], "").status, 200);
    for path in ["/wp-login.php", "/unknown-path"] {
        assert_eq!(request(&public, "GET", path, &[], "").status, 404);
    }
    assert_eq!(request(&public, "BREW", "/", &[], "").status, 405);
    let mut malformed = Connection::open(&public);
    malformed.send_bytes(b"no request\r\n\r\n");
    assert_eq!(malformed.read_response("GET").status, 400);
    let refused = home.call_admin_as("nonsense", "GET", "/admin/status");
    assert_eq!(refused.status, 401);
    assert_eq!(home.call_admin("POST", "/admin/reload").status, 200);
    home.write_env("LOG_KEEP=none\n");
    assert_eq!(home.call_admin("POST", "/admin/reload").status, 422);
    assert_eq!(home.call_admin("POST", "/admin/restart").status, 422);
    home.write_env("");
    (home, redis)
}

#[test]
fn requests_and_operations_are_counted() {
    let (home, _redis) = start_busy_daemon();
    let public = home.public_address();
    let long = format!("/{}", "x".repeat(1000));
    for _ in 0..80 {
        request(&public, "GET", &long, &[], "");
    }
    let mut follower = Connection::open(&home.admin_address());
    let bearer = home.bearer();
    let headers = [("Authorization", bearer.as_str())];
    follower.send("GET", "/admin/logs/stream", &headers, "");
    assert_eq!(follower.read_head().status, 200);
    // A log line is counted once it is written.
    eventually("the log was rotated", || {
        value(&exposition(&home), "fullon_log_rotations_total", &[]) >= Some(1.0)
    });

    let text = exposition(&home);
    let requests = "fullon_http_requests_total";
    for (server, route, method, status, count) in [
        ("public", "/", "GET", "2xx", 3.0),
        ("public", "/", "GET", "4xx", 0.0),
        ("public", "/health", "HEAD", "2xx", 1.0),
        ("public", "other", "GET", "4xx", 82.0),
        ("public", "/", "other", "4xx", 1.0),
        ("public", "other", "other", "4xx", 1.0),
        ("admin", "/admin/status", "GET", "4xx", 1.0),
        ("admin", "/admin/reload", "POST", "2xx", 1.0),
        ("admin", "/admin/reload", "POST", "4xx", 1.0),
        ("admin", "/admin/logs/stream", "GET", "2xx", 1.0),
    ] {
        let labels = [
            ("server", server),
            ("route", route),
            ("method", method),
            ("status", status),
        ];
        assert_value(&text, requests, &labels, count);
    }
    let root = [("server", "public"), ("route", "/"), ("method", "GET")];
    assert_value(
        &text,
        "fullon_http_request_duration_seconds_count",
        &root,
        3.0,
    );
    assert_value(&text, "fullon_phase", &[("phase", "ready")], 1.0);
    assert_value(&text, "fullon_phase", &[("phase", "draining")], 0.0);
    assert_value(&text, "fullon_reloads_total", &[("outcome", "done")], 1.0);
    assert_value(
        &text,
        "fullon_reloads_total",
        &[("outcome", "refused")],
        1.0,
    );
    assert_value(&text, "fullon_failed_restarts_total", &[], 1.0);
    assert_value(&text, "fullon_restarts_total", &[], 0.0);
    assert_value(&text, "fullon_admin_refused_tokens_total", &[], 1.0);
    assert_value(&text, "fullon_log_followers", &[], 1.0);
    assert_value(&text, "fullon_check_up", &[("check", "log")], 1.0);
    assert_value(&text, "fullon_check_up", &[("check", "redis")], 1.0);
    assert_value(&text, "fullon_log_lost_lines_total", &[], 0.0);
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    assert_value(&text, "fullon_build_info", &version, 1.0);
    let assert_more_than = |name, labels, least| {
        let found = value(&text, name, labels);
        assert!(found > Some(least), "{name} is {found:?} in {text}");
    };
    assert_more_than("fullon_log_events_total", &[("level", "info")], 25.0);
    assert_more_than("fullon_log_events_total", &[("level", "warn")], 0.0);
    assert_more_than("fullon_log_written_bytes_total", &[], 80_000.0);
    assert_more_than("fullon_log_disk_free_bytes", &[], 0.0);
    let answered = [("check", "redis"), ("outcome", "ok")];
    assert_more_than("fullon_check_probes_total", &answered, 0.0);
    assert_more_than("fullon_check_latency_seconds", &[("check", "redis")], 0.0);
    assert_more_than("process_resident_memory_bytes", &[], 1e6);
    assert_more_than("process_start_time_seconds", &[], 1.7e9);
    assert_more_than("process_max_fds", &[], 100.0);
    assert!(
        !text.contains("unknown-path") && !text.contains("xxx"),
        "{text}"
    );

    drop(follower);
    home.restart();
    let text = exposition(&home);
    assert_value(&text, "fullon_restarts_total", &[], 1.0);
    assert_value(&text, "fullon_log_followers", &[], 0.0);
}

#[test]
fn hanging_dependency_is_counted_as_timeout() {
    let mut home = Home::new();
    let redis = Redis::start();
    home.depends_on(&redis);
    home.set("CHECK_INTERVAL", "1s");
    home.set("CHECK_TIMEOUT", "500ms");
    home.run(["start"]).succeeds();
    let up = |text: &str| value(text, "fullon_check_up", &[("check", "redis")]);
    let late = |text: &str| {
        let labels = [("check", "redis"), ("outcome", "timeout")];
        value(text, "fullon_check_probes_total", &labels)
    };
    let becomes = |wanted: f64| {
        let mut text = String::new();
        eventually("the metric changes", || {
            text = exposition(&home);
            up(&text) == Some(wanted)
        });
        text
    };
    assert_eq!(late(&becomes(1.0)), Some(0.0));
    redis.pause();
    assert!(late(&becomes(0.0)) >= Some(2.0));
    redis.resume();
    becomes(1.0);
}

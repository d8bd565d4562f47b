//! Counters continue at a zero-downtime restart.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::scraper::Prometheus;
use super::{exposition, start_busy_daemon, value};
use crate::support::{
    Connection, HEAVY, Home, Load, LoadProfile, SetOnDrop, eventually, request, scale,
};

/// Finishes the request of [`Home::unfinished_request`].
fn finish(mut unfinished: Connection) {
    unfinished.send_bytes(b"         ");
    let answer = unfinished.read_response("POST");
    assert_eq!(answer.status, 400, "{answer:#?}");
}

/// The values of counters and histograms, except of the two that belong to one process.
fn counters(exposition: &str) -> BTreeMap<String, f64> {
    let is_counter = |line: &&str| {
        let name = line.split(['{', ' ']).next().unwrap();
        name.starts_with("fullon_")
            && ["_total", "_bucket", "_count", "_sum"]
                .iter()
                .any(|end| name.ends_with(end))
    };
    let lines = exposition.lines().filter(is_counter);
    let pair = |line: &str| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        (series.to_owned(), value.parse().unwrap())
    };
    lines.map(pair).collect()
}

fn assert_not_lower(before: &BTreeMap<String, f64>, now: &BTreeMap<String, f64>) {
    for (series, value) in before {
        let found = now.get(series);
        assert!(found >= Some(value), "{series} was {value}, is {found:?}");
    }
}

#[test]
fn no_counter_falls_at_a_restart() {
    let started = Instant::now();
    let (home, _redis) = start_busy_daemon();
    let text = exposition(&home);
    let before = counters(&text);
    assert!(before.len() > 100, "{before:?}");
    // Below the limit of the new process, and of the old one alone.
    for _ in 0..59 {
        let refused = home.call_admin_as("nonsense", "GET", "/admin/status");
        assert_eq!(refused.status, 401);
    }
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let end = SetOnDrop(&is_over);
        // One client opens a connection for each scrape, the other keeps it as long as it can.
        for keeps in [false, true] {
            let (home, is_over) = (&home, &is_over);
            scope.spawn(move || {
                let (host, bearer) = (home.admin_address(), home.bearer());
                let headers = [("Authorization", bearer.as_str())];
                let mut last = BTreeMap::new();
                let mut connection = Connection::open(&host);
                while !is_over.load(Ordering::Relaxed) {
                    connection.send("GET", "/admin/metrics", &headers, "");
                    let answer = connection.read_response("GET");
                    assert_eq!(answer.status, 200, "{answer:#?}");
                    let now = counters(&answer.body);
                    assert_not_lower(&last, &now);
                    last = now;
                    if !keeps || answer.header("connection") == Some("close") {
                        connection = Connection::open(&host);
                    }
                }
            });
        }
        for _ in 0..5 {
            home.restart();
        }
        drop(end);
    });
    let text = exposition(&home);
    assert_not_lower(&before, &counters(&text));
    for (name, labels, expected) in [
        ("fullon_admin_refused_tokens_total", &[][..], 60.0),
        ("fullon_reloads_total", &[("outcome", "refused")], 1.0),
        ("fullon_failed_restarts_total", &[], 1.0),
        ("fullon_restarts_total", &[], 5.0),
        (
            "fullon_http_request_duration_seconds_count",
            &[("server", "public"), ("route", "/"), ("method", "GET")],
            3.0,
        ),
    ] {
        assert_eq!(value(&text, name, labels), Some(expected), "{name}: {text}");
    }
    // A restart gives no fresh attempts to guess a token.
    let refused = home.call_admin_as("nonsense", "GET", "/admin/status");
    assert!(
        refused.status == 429 || started.elapsed() > Duration::from_mins(1),
        "{refused:#?}"
    );
    home.run(["restart", "--hard"]).succeeds();
    let text = exposition(&home);
    assert_eq!(
        value(&text, "fullon_admin_refused_tokens_total", &[]),
        Some(0.0)
    );
}

#[test]
fn requests_of_the_drain_are_counted() {
    let home = Home::started();
    let drained = || {
        let labels = [("route", "/admin/stop"), ("status", "4xx")];
        value(&exposition(&home), "fullon_http_requests_total", &labels)
    };
    let first = home.unfinished_request();
    let oldest = home.state().pid;
    home.restart();
    let second = home.unfinished_request();
    // The process between the two others exits first.
    home.restart();
    finish(second);
    eventually("one of them is counted", || drained() == Some(1.0));
    let log = home.log();
    assert!(!log.contains(&format!("pid={oldest} drained")));
    finish(first);
    eventually("both are counted", || drained() == Some(2.0));
    home.wait_until_only(home.state().pid);
    assert_eq!(drained(), Some(2.0));
}

#[test]
fn increase_across_restarts_is_exact() {
    let _permit = HEAVY.enter();
    let interval = scale::scrape_interval();
    let restarts = scale::restarts();
    let home = Home::started();
    home.extend_time_limit(interval * (2 * restarts + 4));
    let public = home.public_address();
    for path in ["/", "/health"] {
        assert_eq!(request(&public, "GET", path, &[], "").status, 200);
    }
    finish(home.unfinished_request());
    let prometheus = Prometheus::start(&home, interval);
    let samples = || {
        let result = prometheus.query("max(count_over_time(up{job=\"fullon\"}[1h]))");
        result[0]["value"][1]
            .as_str()
            .map_or(0, |count| count.parse().unwrap())
    };
    let wait_for_samples = |count: u64| {
        let wanted = samples() + count;
        eventually("Prometheus has scraped", || samples() >= wanted);
    };
    wait_for_samples(1);

    let limit = interval * (2 * restarts + 4);
    let mut old_pids = Vec::new();
    let load = Load::start_with_limit(limit, &public, &LoadProfile::default());
    for _ in 0..restarts {
        let unfinished = home.unfinished_request();
        old_pids.push(home.state().pid);
        home.restart();
        finish(unfinished);
        wait_for_samples(1);
    }
    let report = load.finish();
    report.assert_flawless();
    eventually("the old processes have exited", || {
        let has_exited = |pid| !Path::new(&format!("/proc/{pid}")).exists();
        old_pids.iter().all(has_exited)
    });
    wait_for_samples(2);

    let up = prometheus.query("min_over_time(up{job=\"fullon\"}[1h])");
    assert_eq!(up[0]["value"][1], "1", "{up}");
    for (sent, routes) in [
        (
            report.answered,
            "route=~\"/|/health\",method=\"GET\",status=\"2xx\"",
        ),
        (u64::from(restarts), "route=\"/admin/stop\",status=\"4xx\""),
    ] {
        let selector = format!("fullon_http_requests_total{{{routes}}}");
        let increase = assert_increase(&prometheus, &selector, sent);
        println!("{selector}: sent {sent}, increase() {increase:.2}");
    }
    let selector =
        "fullon_http_request_duration_seconds_count{route=~\"/|/health\",method=\"GET\"}";
    assert_increase(&prometheus, selector, report.answered);
}

/// Checks that the samples rise by exactly `sent`, and that `increase()` says so. Returns that.
fn assert_increase(prometheus: &Prometheus, selector: &str, sent: u64) -> f64 {
    let series = prometheus.query(&format!("{selector}[1h]"));
    let series = series.as_array().unwrap();
    assert!(!series.is_empty(), "nothing for {selector}");
    let (mut rise, mut increase) = (0.0, 0.0);
    for one in series {
        let sample = |sample: &serde_json::Value| -> (f64, f64) {
            let value = sample[1].as_str().unwrap().parse().unwrap();
            (sample[0].as_f64().unwrap(), value)
        };
        let samples: Vec<_> = one["values"]
            .as_array()
            .unwrap()
            .iter()
            .map(sample)
            .collect();
        assert!(samples.is_sorted_by_key(|(_, value)| *value), "{samples:?}");
        let (first, last) = (samples[0], samples[samples.len() - 1]);
        rise += last.1 - first.1;
        // From the first sample to the last one, so that Prometheus has nothing to extrapolate.
        let range = Duration::from_secs_f64(last.0 - first.0).as_millis() + 1;
        let labels = &one["metric"];
        let exact = format!(
            "sum(increase({}{{instance=\"{}\",route=\"{}\",method=\"{}\",status=\"{}\"}}[{range}ms]))",
            labels["__name__"].as_str().unwrap(),
            labels["instance"].as_str().unwrap(),
            labels["route"].as_str().unwrap(),
            labels["method"].as_str().unwrap(),
            labels["status"].as_str().unwrap_or_default(),
        );
        let result = prometheus.query_at(&exact, last.0);
        increase += result[0]["value"][1]
            .as_str()
            .unwrap()
            .parse::<f64>()
            .unwrap();
    }
    #[expect(clippy::cast_precision_loss, reason = "there are few requests")]
    let sent = sent as f64;
    assert_eq!(rise.to_string(), sent.to_string(), "{selector}");
    assert!(
        (increase - sent).abs() <= sent / 100.0,
        "{increase} of {sent}"
    );
    increase
}

//! `/admin/metrics` as Prometheus reads it, and the shipped dashboard and alerts.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::{
    ChildGuard, Connection, Dependency as _, Home, Outcome, Redis, eventually, free_port, request,
    spawn,
};

const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy");

fn fleet_page() -> String {
    fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/fleet.md")).unwrap()
}

fn dashboard() -> Value {
    let text = fs::read_to_string(Path::new(DEPLOY).join("grafana/dashboard.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

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
    for path in ["/wp-login.php", "/another-path-of-a-stranger"] {
        assert_eq!(request(&public, "GET", path, &[], "").status, 404);
    }
    assert_eq!(request(&public, "BREW", "/", &[], "").status, 405);
    let mut malformed = Connection::open(&public);
    malformed.send_bytes(b"no request\r\n\r\n");
    assert_eq!(malformed.read_response("GET").status, 400);
    let invalid_token = [("Authorization", "Bearer nonsense")];
    let refused = request(
        &home.admin_address(),
        "GET",
        "/admin/status",
        &invalid_token,
        "",
    );
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
        !text.contains("stranger") && !text.contains("xxx"),
        "{text}"
    );

    drop(follower);
    home.restart();
    let text = exposition(&home);
    assert_value(&text, "fullon_restarts_total", &[], 1.0);
    assert_value(&text, "fullon_log_followers", &[], 0.0);
}

#[test]
fn promtool_accepts_the_metrics() {
    let (home, _redis) = start_busy_daemon();
    home.restart();
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let text = exposition(&home);
    let mut stdin = promtool.stdin.take().unwrap();
    stdin.write_all(text.as_bytes()).unwrap();
    drop(stdin);
    let output = promtool.wait_with_output().unwrap();
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed);
    assert!(
        output.status.success() && printed.is_empty(),
        "{printed} for {text}"
    );
}

#[test]
fn every_alert_rule_has_a_passing_test() {
    let rules = Path::new(DEPLOY).join("prometheus");
    for arguments in [
        ["check", "rules", "alerts.yml"],
        ["test", "rules", "alerts.test.yml"],
    ] {
        let mut promtool = Command::new("promtool");
        Outcome::run(promtool.args(arguments).current_dir(&rules)).succeeds();
    }
    let alerts = fs::read_to_string(rules.join("alerts.yml")).unwrap();
    let tests = fs::read_to_string(rules.join("alerts.test.yml")).unwrap();
    for alert in alerts
        .lines()
        .filter_map(|line| line.split_once("- alert: "))
    {
        let alert = alert.1;
        assert!(
            tests.contains(&format!("alertname: {alert}\n        exp_alerts:")),
            "no test raises {alert}"
        );
    }
}

#[test]
fn pod_and_machine_have_same_scrape_interval() {
    let scrape_interval = |path: &str| {
        let settings = fs::read_to_string(Path::new(DEPLOY).join(path)).unwrap();
        let mut lines = settings.lines();
        lines.find_map(|line| Some(line.trim().strip_prefix("scrape_interval: ")?.to_owned()))
    };
    let machine_interval = scrape_interval("prometheus/prometheus.yml");
    assert!(machine_interval.is_some());
    assert_eq!(scrape_interval("kubernetes.yaml"), machine_interval);
}

#[test]
fn documented_fleet_settings_are_valid_for_prometheus() {
    let home = Home::new();
    let fleet = fleet_page();
    let command = fleet.lines().find_map(|line| line.strip_prefix("# sed "));
    let command = format!("sed {}", command.unwrap());
    let target = " > /etc/prometheus/prometheus.yml";
    assert!(command.ends_with(target), "{command}");
    let mut shell = Command::new("sh");
    shell.args(["-c", command.trim_end_matches(target)]);
    let settings = Outcome::run(shell.current_dir(env!("CARGO_MANIFEST_DIR"))).succeeds();
    fs::write(home.path().join("fullon.token"), "").unwrap();
    let settings = settings.stdout.replace("/etc/prometheus/", "");
    assert!(!settings.contains("THIS-HOST") && !settings.contains("rule_files"));
    assert!(settings.contains("\nremote_write:\n"), "{settings}");
    fs::write(home.path().join("prometheus.yml"), settings).unwrap();
    for mode in [&[][..], &["--agent"]] {
        let mut promtool = home.command("promtool");
        let promtool = promtool.args(["check", "config"]).args(mode);
        Outcome::run(promtool.arg("prometheus.yml")).succeeds();
    }
}

#[test]
fn documented_log_searches_match_both_formats() {
    const SECTION: &str = "What to look for in the log";
    let alerts = fs::read_to_string(Path::new(DEPLOY).join("prometheus/alerts.yml")).unwrap();
    assert!(alerts.contains(&format!("docs/fleet.md, {SECTION}")));
    let fleet = fleet_page();
    let (_, section) = fleet.split_once(&format!("## {SECTION}\n")).unwrap();
    let rows: Vec<Vec<&str>> = section
        .lines()
        .filter(|line| line.contains("`'"))
        .map(|line| line.split("`'").skip(1))
        .map(|cells| cells.map(|cell| cell.split("'`").next().unwrap()).collect())
        .collect();
    assert_eq!(rows.len(), 4, "{rows:?}");
    for (column, format) in ["text", "json"].into_iter().enumerate() {
        let mut home = Home::new();
        home.set("LOG_FORMAT", format);
        home.unset("HOST");
        home.write_env("HOST=127.0.0.1\n");
        home.run(["start"]).succeeds();
        let invalid_token = [("Authorization", "Bearer nonsense")];
        let refused = request(
            &home.admin_address(),
            "GET",
            "/admin/status",
            &invalid_token,
            "",
        );
        assert_eq!(refused.status, 401);
        // An address reserved for documentation (RFC 5737).
        home.write_env("HOST=203.0.113.1\n");
        assert_eq!(home.call_admin("POST", "/admin/restart").status, 500);
        for row in &rows {
            let text = row[column];
            eventually("the line is logged", || {
                let found = home.run(["logs", "--no-follow", "--contains", text]);
                found.succeeds().stdout.contains(text)
            });
        }
    }
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

/// Collects the expressions of a dashboard, at any depth.
fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == "expr" => found.push(text.clone()),
                    value => expressions(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        _ => {}
    }
}

#[test]
fn dashboard_axes_do_not_mix_bytes_with_other_units() {
    let dashboard = dashboard();
    let mut byte_targets = 0;
    for panel in dashboard["panels"].as_array().unwrap() {
        let config = &panel["fieldConfig"];
        for target in panel["targets"].as_array().unwrap() {
            let legend = target["legendFormat"].as_str().unwrap();
            let override_ = config["overrides"].as_array().unwrap().iter().find(|one| {
                let pattern = one["matcher"]["options"].as_str().unwrap();
                legend.ends_with(pattern.trim_start_matches(".*"))
            });
            let property = |id: &str| {
                let properties = override_?["properties"].as_array().unwrap();
                Some(&properties.iter().find(|one| one["id"] == id)?["value"])
            };
            assert!(
                override_.is_none() || property("custom.axisPlacement").is_some(),
                "{panel}"
            );
            let unit = property("unit").unwrap_or(&config["defaults"]["unit"]);
            let is_of_bytes = ["bytes", "Bps"].iter().any(|bytes| unit == bytes);
            let expression = target["expr"].as_str().unwrap();
            assert_eq!(expression.contains("_bytes"), is_of_bytes, "{expression}");
            byte_targets += usize::from(is_of_bytes);
        }
    }
    assert!(byte_targets > 2, "{byte_targets}");
}

/// The names of our metrics in a text.
fn metric_names(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("fullon_") || word.starts_with("process_"))
        .map(str::to_owned)
        .collect()
}

/// A metric, and the labels that an expression requires.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Selector {
    text: String,
    labels: Vec<String>,
}

/// The selectors in a text with expressions.
fn selectors(text: &str) -> BTreeSet<Selector> {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = BTreeSet::new();
    let mut rest = text;
    while let Some(at) = rest.find(is_of_name) {
        let word = &rest[at..];
        let (name, behind) = word.split_at(word.find(|c| !is_of_name(c)).unwrap_or(word.len()));
        rest = behind;
        let matchers = behind
            .strip_prefix('{')
            .and_then(|behind| behind.split_once('}'));
        let is_metric = name.starts_with("fullon_")
            || name.starts_with("process_")
            || (name == "up" && matchers.is_some());
        if !is_metric {
            continue;
        }
        let matchers = matchers.map(|(matchers, _)| matchers);
        found.insert(Selector {
            text: matchers.map_or_else(|| name.into(), |matchers| format!("{name}{{{matchers}}}")),
            // A missing label equals an empty one, which many matchers accept.
            labels: matchers
                .into_iter()
                .flat_map(|matchers| matchers.split(','))
                .map(|matcher| matcher.split(['=', '!']).next().unwrap().to_owned())
                .collect(),
        });
    }
    found
}

/// A Prometheus that scrapes the daemon with the shipped configuration.
fn prometheus(home: &Home) -> (ChildGuard, String) {
    let directory = home.path().join("prometheus");
    fs::create_dir(&directory).unwrap();
    let token = directory.join("token");
    fs::write(&token, home.token("admin:read")).unwrap();
    let shipped = Path::new(DEPLOY).join("prometheus");
    fs::copy(shipped.join("alerts.yml"), directory.join("alerts.yml")).unwrap();
    let settings = fs::read_to_string(shipped.join("prometheus.yml")).unwrap();
    let settings = settings
        .replace("/etc/prometheus/fullon.token", token.to_str().unwrap())
        .replace("127.0.0.1:8001", &home.admin_address())
        .replace("15s", "1s");
    fs::write(directory.join("prometheus.yml"), settings).unwrap();
    let address = format!("127.0.0.1:{}", free_port());
    let mut command = home.command("prometheus");
    command
        .arg("--config.file=prometheus/prometheus.yml")
        .arg("--storage.tsdb.path=prometheus/data")
        .arg(format!("--web.listen-address={address}"));
    let log = fs::File::create(directory.join("log")).unwrap();
    let program = spawn(command.stdout(log.try_clone().unwrap()).stderr(log));
    eventually("Prometheus is ready", || {
        std::net::TcpStream::connect(&address).is_ok()
            && request(&address, "GET", "/-/ready", &[], "").status == 200
    });
    (program, address)
}

#[test]
fn dashboard_and_alerts_use_existing_metrics() {
    let (home, _redis) = start_busy_daemon();
    let (_prometheus, address) = prometheus(&home);
    let query = |expression: &str| -> Value {
        let encoded = expression.bytes().fold(String::new(), |mut encoded, byte| {
            let _ = write!(encoded, "%{byte:02X}");
            encoded
        });
        let path = format!("/api/v1/query?query={encoded}");
        let answer = request(&address, "GET", &path, &[], "");
        assert_eq!(answer.status, 200, "{expression}: {answer:#?}");
        answer.json()["data"]["result"].clone()
    };
    eventually("Prometheus has scraped twice", || {
        query("count_over_time(up{job=\"fullon\"}[1m]) >= 2") != serde_json::json!([])
    });
    assert_eq!(query("up{job=\"fullon\"}")[0]["value"][1], "1");

    let mut found = Vec::new();
    expressions(&dashboard(), &mut found);
    assert!(found.len() > 20, "{found:?}");
    for expression in &found {
        let filled = expression
            .replace("$instance", ".*")
            .replace("$job", "fullon")
            .replace("$__rate_interval", "1m");
        let result = query(&filled);
        // These show a result only when something is wrong.
        let is_quiet = filled.ends_with("> 0");
        assert!(
            is_quiet || result != serde_json::json!([]),
            "nothing for {filled}"
        );
    }
    let alerts = fs::read_to_string(Path::new(DEPLOY).join("prometheus/alerts.yml")).unwrap();
    for alert in alerts.split("- alert: ").skip(1) {
        let selectors = selectors(alert);
        assert!(!selectors.is_empty(), "{alert}");
        let mut existing = BTreeSet::new();
        for selector in &selectors {
            let result = query(&selector.text);
            let series = result.as_array().unwrap();
            assert!(!series.is_empty(), "nothing for {selector:?}");
            for one in series {
                let labels = one["metric"].as_object().unwrap();
                let lacks = |label: &&String| !labels.contains_key(*label);
                assert_eq!(selector.labels.iter().find(lacks), None, "{one}");
                existing.extend(labels.keys().cloned());
            }
        }
        for label in alert.split("$labels.").skip(1) {
            let label = label.split(' ').next().unwrap();
            assert!(existing.contains(label), "no {label} for {alert}");
        }
    }
    let exposition = exposition(&home);
    let existing = metric_names(&exposition);
    for name in metric_names(&found.join("\n")).union(&metric_names(&alerts)) {
        assert!(existing.contains(name), "no {name} in {exposition}");
    }
    // Every exported metric is on the dashboard.
    let shown = metric_names(&found.join("\n"));
    let not_shown: Vec<_> = exposition
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(|line| line.split(' ').next().unwrap())
        .filter(|name| {
            !shown.iter().any(|shown| {
                let part = shown.strip_prefix(name);
                part.is_some_and(|part| ["", "_bucket", "_count", "_sum"].contains(&part))
            })
        })
        .filter(|name| *name != "process_start_time_seconds")
        .collect();
    assert_eq!(not_shown, Vec::<&str>::new(), "not on the dashboard");
}

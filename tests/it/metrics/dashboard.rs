//! The shipped dashboard and alerts, queried in a real Prometheus.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::scraper::Prometheus;
use super::{DEPLOY, exposition, start_busy_daemon};
use crate::support::eventually;

fn dashboard() -> Value {
    let text = fs::read_to_string(Path::new(DEPLOY).join("grafana/dashboard.json")).unwrap();
    serde_json::from_str(&text).unwrap()
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

#[test]
fn dashboard_and_alerts_use_existing_metrics() {
    let (home, _redis) = start_busy_daemon();
    let prometheus = Prometheus::start(&home, Duration::from_secs(1));
    let query = |expression: &str| prometheus.query(expression);
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

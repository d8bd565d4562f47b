//! Prometheus with the shipped rules, settings and documentation.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{DEPLOY, exposition, start_busy_daemon};
use crate::support::{Home, Outcome, eventually};

fn monitoring_page() -> String {
    fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/monitoring.md")).unwrap()
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
fn every_alert_is_tested_and_documented() {
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
    let page = monitoring_page();
    for alert in alerts
        .lines()
        .filter_map(|line| line.split_once("- alert: "))
    {
        let alert = alert.1;
        assert!(
            tests.contains(&format!("alertname: {alert}\n        exp_alerts:")),
            "no test raises {alert}"
        );
        assert!(
            page.contains(&format!("\n### {alert}\n\n")),
            "docs/monitoring.md does not explain {alert}"
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
fn documented_agent_settings_are_valid_for_prometheus() {
    let home = Home::new();
    let page = monitoring_page().replace(" \\\n    ", " ");
    let mut lines = page.lines();
    let command = lines.find(|line| line.starts_with("sed ")).unwrap();
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
    let page = monitoring_page();
    let (_, section) = page.split_once("## Find the lines in the log\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
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
        let refused = home.call_admin_as("nonsense", "GET", "/admin/status");
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
fn every_alert_links_to_its_section() {
    let alerts = fs::read_to_string(Path::new(DEPLOY).join("prometheus/alerts.yml")).unwrap();
    let page = monitoring_page();
    let mut rules = alerts.split("- alert: ").skip(1).peekable();
    assert!(rules.peek().is_some());
    for rule in rules {
        let name = rule.lines().next().unwrap();
        let link = format!("runbook_url: docs/monitoring.md#{}\n", name.to_lowercase());
        assert!(rule.contains(&link), "{rule}");
        assert!(page.contains(&format!("\n### {name}\n")), "{name}");
    }
}

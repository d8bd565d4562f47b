//! PostgreSQL and Redis in health checks. Each test has its own real servers.

mod certificates;
mod connections;
mod outages;
mod restarts;
mod settings;

use serde_json::Value;

use crate::support::{
    Dependency, Home, dependencies_available, eventually, prerequisite_available, request,
    start_dependencies,
};

fn servers_available() -> bool {
    let needed = "PostgreSQL, Redis and OpenSSL";
    prerequisite_available("dependencies", needed, dependencies_available())
}

/// Starts one server of each kind, or none if their programs are not installed.
fn start_available() -> Vec<Box<dyn Dependency>> {
    if servers_available() {
        start_dependencies()
    } else {
        Vec::new()
    }
}

/// A home with short intervals. The timeout allows for a slow PostgreSQL login in debug builds.
fn home_with_short_intervals() -> Home {
    let mut home = Home::new();
    home.set("CHECK_INTERVAL", "4s");
    home.set("CHECK_TIMEOUT", "2s");
    home
}

/// Starts a daemon with this dependency, and waits until the dependency is up.
fn start_up(dependency: &dyn Dependency) -> Home {
    let mut home = home_with_short_intervals();
    home.depends_on(dependency);
    home.run(["start"]).succeeds();
    wait_for_state(&home, dependency.name(), "up");
    home
}

/// A running daemon whose dependencies are changed by reloads.
fn reloaded_home() -> Home {
    let mut home = home_with_short_intervals();
    // Nothing is probed twice.
    home.set("CHECK_INTERVAL", "1h");
    home.run(["start"]).succeeds();
    home
}

/// The first result of a probe with these settings: `up`, or the error.
#[track_caller]
fn probe(home: &Home, name: &str, settings: &[(&str, &str)]) -> String {
    home.write_env("");
    home.run(["reload"]).succeeds();
    let lines = settings.iter();
    let lines: Vec<_> = lines
        .map(|(name, value)| format!("{name}='{value}'\n"))
        .collect();
    home.write_env(&lines.concat());
    home.run(["reload"]).succeeds();
    eventually("there is a result", || state(home, name) != "unknown");
    match state(home, name).as_str() {
        "up" => "up".into(),
        _ => last_error(home, name),
    }
}

/// The check with this name, if any.
fn check(home: &Home, name: &str) -> Option<Value> {
    let ready = request(&home.public_address(), "GET", "/health/ready", &[], "");
    let checks = ready.json()["checks"].as_array().unwrap().clone();
    checks.into_iter().find(|check| check["name"] == name)
}

fn state(home: &Home, name: &str) -> String {
    let check = check(home, name).unwrap();
    check["state"].as_str().unwrap().to_owned()
}

#[track_caller]
fn wait_for_state(home: &Home, name: &str, wanted: &str) {
    eventually(&format!("{name} is {wanted}"), || {
        state(home, name) == wanted
    });
    let status = request(&home.public_address(), "GET", "/health", &[], "").status;
    assert_eq!(status, if wanted == "up" { 200 } else { 503 });
}

/// The last error of the check.
fn last_error(home: &Home, name: &str) -> String {
    let check = check(home, name).unwrap();
    check["last_error"].as_str().unwrap_or_default().to_owned()
}

/// Number of events about this check: `down` or `up again`.
fn count_events(home: &Home, name: &str, event: &str) -> usize {
    let log = home.log();
    let event = format!(" health: {event} ");
    let field = format!("dependency=\"{name}\"");
    let matches = |line: &&str| line.contains(&event) && line.contains(&field);
    log.lines().filter(matches).count()
}

/// Number of probes of the active process with this outcome.
fn count_probes(home: &Home, name: &str, outcome: &str) -> f64 {
    let metrics = home.call_admin("GET", "/admin/metrics").body;
    let name = format!("fullon_check_probes_total{{check=\"{name}\",outcome=\"{outcome}\"}} ");
    let count = metrics.lines().find_map(|line| line.strip_prefix(&name));
    count.unwrap().parse().unwrap()
}

//! Outages, lost connections and probes that hang.

use super::{
    check, count_events, count_probes, last_error, start_available, start_up, state, wait_for_state,
};
use crate::support::{Home, eventually, request};

#[test]
fn outage_and_recovery_are_reported() {
    for mut dependency in start_available() {
        let name = dependency.name();
        let home = start_up(&*dependency);
        let up = check(&home, name).unwrap();
        assert!(up["latency_ms"].as_f64().unwrap() > 0.0, "{up}");
        assert!(up["since"].is_string() && up.get("last_error").is_none());
        home.run(["status"])
            .succeeds()
            .stdout_contains(&[&format!("{name} is up since ")]);
        home.run(["doctor"])
            .succeeds()
            .stdout_contains(&[&format!("{name} is up (")]);

        dependency.stop();
        wait_for_state(&home, name, "down");
        assert_eq!(
            last_error(&home, name),
            "cannot connect: connection refused"
        );
        let answer = request(&home.public_address(), "GET", "/health/ready", &[], "");
        assert_eq!(
            (answer.status, &answer.json()["ready"]),
            (503, &false.into())
        );
        home.run(["status"])
            .succeeds()
            .stdout_contains(&[&format!("{name} is down since "), "connection refused"]);
        home.run(["doctor"])
            .exits(1)
            .stdout_contains(&[&format!("{name} is down: ")]);

        dependency.start();
        wait_for_state(&home, name, "up");
        dependency.stop();
        wait_for_state(&home, name, "down");
        home.run(["stop"]).succeeds();
        home.run(["start"]).succeeds();
        wait_for_state(&home, name, "down");
        dependency.start();
        wait_for_state(&home, name, "up");
        eventually("each change is one event", || {
            (
                count_events(&home, name, "down"),
                count_events(&home, name, "up again"),
            ) == (3, 2)
        });
    }
}

#[test]
fn paused_dependency_is_down_until_resumed() {
    for dependency in start_available() {
        let name = dependency.name();
        let home = start_up(&*dependency);
        dependency.pause();
        wait_for_state(&home, name, "down");
        assert!(last_error(&home, name).starts_with("no answer within "));
        dependency.resume();
        wait_for_state(&home, name, "up");
    }
}

#[test]
fn health_responds_while_first_probe_hangs() {
    for dependency in start_available() {
        let name = dependency.name();
        let mut home = Home::new();
        // A response that waited for the probe would come after the deadline of this test.
        home.set("CHECK_INTERVAL", "3m");
        home.set("CHECK_TIMEOUT", "1m");
        home.depends_on(&*dependency);
        dependency.pause();
        home.run(["start"]).succeeds();
        for _ in 0..20 {
            assert_eq!(state(&home, name), "unknown");
            let health = request(&home.public_address(), "GET", "/health", &[], "");
            assert_eq!(health.status, 503);
        }
        dependency.resume();
        wait_for_state(&home, name, "up");
    }
}

#[test]
fn lost_connection_is_no_outage_and_connection_is_reused() {
    for dependency in start_available() {
        let name = dependency.name();
        let home = start_up(&*dependency);
        let probes = |count: usize| {
            for _ in 0..count {
                let last = dependency.last_probe();
                eventually("the dependency is probed again", || {
                    dependency.last_probe() != last
                });
            }
        };
        let connection = dependency.client_connection();
        assert!(connection.is_some());
        probes(5);
        assert_eq!(dependency.client_connection(), connection);

        dependency.disconnect_clients();
        eventually("the daemon connects again", || {
            let now = dependency.client_connection();
            now.is_some() && now != connection
        });
        // One failed probe is tolerated.
        let last = dependency.last_probe();
        eventually("the dependency is probed again", || {
            dependency.last_probe() != last
        });
        let timed_out = || count_probes(&home, name, "timeout");
        let before = timed_out();
        dependency.pause();
        eventually("one probe times out", || timed_out() > before);
        dependency.resume();
        probes(3);
        assert_eq!(state(&home, name), "up");
        assert_eq!(count_events(&home, name, "down"), 0);
    }
}

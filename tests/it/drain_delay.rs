//! Shutdown waits for DRAIN_DELAY, so that load balancers notice it.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{Connection, Home, eventually, request};

fn start_with_delay(delay: &str) -> Home {
    let mut home = Home::new();
    home.set("DRAIN_DELAY", delay);
    home.run(["start"]).succeeds();
    home
}

fn status_of(host: &str, path: &str) -> u16 {
    request(host, "GET", path, &[], "").status
}

#[test]
fn health_turns_503_at_once_and_service_continues() {
    let home = start_with_delay("4s");
    let (public, pid) = (home.public_address(), home.daemon().unwrap());
    let mut stream = Connection::open(&home.admin_address());
    let path = "/admin/logs/stream?lines=0";
    stream.send("GET", path, &[("Authorization", &home.bearer())], "");
    assert_eq!(stream.read_head().status, 200);

    // Once the stop is answered, the next probe on any connection reports it.
    let mut probes = ["/health/ready", "/health"].map(|path| (path, Connection::open(&public)));
    let (bearer, mut stop) = (home.bearer(), Connection::open(&home.admin_address()));
    let start = Instant::now();
    stop.send("POST", "/admin/stop", &[("Authorization", &bearer)], "");
    let answer = stop.read_response("POST");
    for (path, probe) in &mut probes {
        probe.send("GET", path, &[], "");
        assert_eq!(probe.read_response("GET").status, 503, "{path}");
    }
    assert_eq!(answer.status, 202);
    let seconds_left = answer.json()["seconds_left"].as_f64().unwrap();
    assert!(
        seconds_left > 13.0 && seconds_left <= 14.0,
        "{seconds_left}"
    );
    assert_eq!(status_of(&public, "/health"), 503);
    assert_eq!(status_of(&public, "/health/live"), 200);
    // A follower still receives new lines.
    request(&public, "GET", "/", &[("X-Request-Id", "meanwhile")], "");
    loop {
        let line = stream.read_line();
        assert!(
            !line.starts_with("event: end"),
            "the stream ended before the line"
        );
        if line.contains("meanwhile") {
            break;
        }
    }
    assert!(stream.read_to_end().contains("event: end"));
    assert!(start.elapsed() >= Duration::from_secs(4));
    assert!(pid.wait_for_exit(Duration::from_secs(10)));
    assert!(TcpStream::connect(&public).is_err());
}

#[test]
fn second_signal_ends_delay_at_once() {
    let home = start_with_delay("5m");
    let (public, process) = (home.public_address(), home.daemon().unwrap());
    process.send_signal(Signal::TERM).unwrap();
    eventually("health turns 503", || status_of(&public, "/health") == 503);
    let ready = request(&public, "GET", "/health/ready", &[], "");
    assert_eq!(ready.status, 503);
    let ready = ready.json();
    assert_eq!(
        (&ready["ready"], &ready["phase"]),
        (&false.into(), &"draining".into())
    );
    assert_eq!(status_of(&public, "/health/live"), 200);
    // The deadline is that of the first request.
    let (bearer, mut stop) = (home.bearer(), Connection::open(&home.admin_address()));
    let headers = [("Authorization", bearer.as_str())];
    stop.send("POST", "/admin/stop", &headers, "{\"timeout_seconds\":600}");
    let seconds_left = stop.read_response("POST").json()["seconds_left"]
        .as_f64()
        .unwrap();
    assert!(seconds_left <= 310.0, "{seconds_left}");
    process.send_signal(Signal::TERM).unwrap();
    assert!(process.wait_for_exit(Duration::from_secs(5)));
}

#[test]
fn stop_and_hard_restart_wait_for_the_delay() {
    let home = start_with_delay("1s");
    let start = Instant::now();
    home.run(["restart", "--hard"]).succeeds();
    assert!(start.elapsed() >= Duration::from_secs(1));
    let start = Instant::now();
    home.run(["stop"])
        .succeeds()
        .stdout_contains(&["Daemon stopped\n"]);
    assert!(start.elapsed() >= Duration::from_secs(1));
}

/// Before SIGKILL, a stop by signal waits ten seconds plus the delay.
#[test]
fn stop_by_signal_waits_for_the_delay() {
    let mut home = Home::new();
    home.unset("ADMIN_PORT");
    home.write_env("ADMIN_PORT=0\n");
    home.run(["start"]).succeeds();
    // The reloaded delay is active, and in the state file for `fullon stop`.
    home.write_env("ADMIN_PORT=0\nDRAIN_DELAY=11s\n");
    home.run(["reload"]).succeeds();
    eventually("the state file has the delay", || {
        home.state().stop_timeout == Some(Duration::from_secs(21))
    });
    let process = home.daemon().unwrap();
    process.send_signal(Signal::STOP).unwrap();
    // A stop also resumes the daemon.
    let start = Instant::now();
    home.run(["stop"])
        .succeeds()
        .stdout_contains(&["Daemon stopped (by SIGTERM)\n"]);
    assert!(start.elapsed() >= Duration::from_secs(11));
    let log = home.log();
    assert!(log.contains(" stopped"), "{log}");
}

/// The request is queued behind the reload, but health changes at once.
#[test]
fn health_turns_503_during_a_slow_reload() {
    let home = start_with_delay("5m");
    let (public, admin) = (home.public_address(), home.admin_address());
    let bearer = home.bearer();
    let headers = [("Authorization", bearer.as_str())];
    home.write_env(&"# This takes a while to read.\n".repeat(200_000));
    let mut reload = Connection::open(&admin);
    reload.send("POST", "/admin/reload", &headers, "");
    eventually("the reload is accepted", || {
        home.log().contains("action=\"reload\"")
    });
    let stop = request(&admin, "POST", "/admin/stop", &headers, "");
    let ready = request(&public, "GET", "/health/ready", &[], "");
    assert_eq!((stop.status, ready.status), (202, 503), "{ready:#?}");
    assert_eq!(reload.read_response("POST").status, 200);
    eventually("the daemon drains", || home.log().contains(" stopping "));
}

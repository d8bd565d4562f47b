//! PostgreSQL and Redis in health checks. Each test has its own real servers.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::support::{
    Certificate, Connection, Dependency, Home, Load, LoadProfile, PASSWORD, Postgres, Redis,
    SetOnDrop, dependencies_available, eventually, free_port, prerequisite_available, request,
    start_dependencies,
};

const PREREQUISITES: &str = "PostgreSQL, Redis and OpenSSL";

/// A home with short intervals. The timeout allows for a slow PostgreSQL login in debug builds.
fn home_with_short_intervals() -> Home {
    let mut home = Home::new();
    home.set("CHECK_INTERVAL", "2s");
    home.set("CHECK_TIMEOUT", "1s");
    home
}

fn start_with(dependency: &dyn Dependency) -> Home {
    let mut home = home_with_short_intervals();
    home.depends_on(dependency);
    home.run(["start"]).succeeds();
    home
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

/// Number of health events about it.
fn count_events(home: &Home, name: &str, what: &str) -> usize {
    let log = home.log();
    let begin = format!(" health: {what} ");
    let its_name = format!("dependency=\"{name}\"");
    let of_it = |line: &&str| line.contains(&begin) && line.contains(&its_name);
    log.lines().filter(of_it).count()
}

#[test]
fn outage_and_recovery_are_reported() {
    if !prerequisite_available("dependencies", PREREQUISITES, dependencies_available()) {
        return;
    }
    for mut dependency in start_dependencies() {
        let name = dependency.name();
        let home = start_with(&*dependency);
        wait_for_state(&home, name, "up");
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
            "it cannot be reached: connection refused"
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
    if !prerequisite_available("dependencies", PREREQUISITES, dependencies_available()) {
        return;
    }
    for dependency in start_dependencies() {
        let name = dependency.name();
        let home = start_with(&*dependency);
        wait_for_state(&home, name, "up");
        dependency.pause();
        wait_for_state(&home, name, "down");
        assert!(last_error(&home, name).starts_with("no answer within "));
        dependency.resume();
        wait_for_state(&home, name, "up");
    }
}

#[test]
fn health_responds_while_first_probe_hangs() {
    if !prerequisite_available("dependencies", PREREQUISITES, dependencies_available()) {
        return;
    }
    for dependency in start_dependencies() {
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
    if !prerequisite_available("dependencies", PREREQUISITES, dependencies_available()) {
        return;
    }
    for dependency in start_dependencies() {
        let name = dependency.name();
        let home = start_with(&*dependency);
        wait_for_state(&home, name, "up");
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

/// Every printable ASCII character and some others.
fn any_password() -> String {
    let ascii = (b' '..=b'~').map(char::from);
    ascii.chain("äß€日本🔑".chars()).collect()
}

#[test]
fn any_password_works_and_wrong_one_is_reported() {
    if !prerequisite_available("dependencies", PREREQUISITES, dependencies_available()) {
        return;
    }
    for mut dependency in start_dependencies() {
        let name = dependency.name();
        let password = any_password();
        dependency.set_password(&password);
        let mut home = start_with(&*dependency);
        wait_for_state(&home, name, "up");
        home.run(["stop"]).succeeds();

        home.set(dependency.password_setting(), "wrong");
        home.run(["start"]).succeeds();
        wait_for_state(&home, name, "down");
        assert_eq!(last_error(&home, name), "it refused the password");
        home.run(["stop"]).succeeds();

        home.unset(dependency.password_setting());
        home.run(["start"]).succeeds();
        wait_for_state(&home, name, "down");
        let setting = dependency.password_setting();
        let wanted = format!("it wants a password, and {setting} is not set");
        assert_eq!(last_error(&home, name), wanted);
    }
}

#[test]
fn reload_applies_dependency_settings_at_once() {
    if !prerequisite_available("dependencies", PREREQUISITES, dependencies_available()) {
        return;
    }
    let mut home = home_with_short_intervals();
    // With this interval, only a new prober can know the state soon.
    home.set("CHECK_INTERVAL", "1h");
    home.run(["start"]).succeeds();
    assert!(check(&home, "redis").is_none());
    let (mut redis, postgres) = (Redis::start(), Postgres::start());
    let write = |home: &Home, dependencies: &[&dyn Dependency]| {
        let settings = dependencies.iter().flat_map(|it| it.settings());
        let lines: Vec<_> = settings
            .map(|(name, value)| format!("{name}='{value}'\n"))
            .collect();
        home.write_env(&lines.concat());
        home.run(["reload"]).succeeds();
    };
    write(&home, &[&redis]);
    wait_for_state(&home, "redis", "up");
    let connection = redis.client_connection();
    write(&home, &[&redis, &postgres]);
    wait_for_state(&home, "postgresql", "up");
    assert_eq!(
        redis.client_connection(),
        connection,
        "the unchanged dependency was reconnected"
    );

    redis.set_password("another");
    let since = check(&home, "redis").unwrap()["since"].clone();
    write(&home, &[&redis, &postgres]);
    eventually("the daemon uses the new password", || {
        let now = redis.client_connection();
        now.is_some() && now != connection
    });
    assert_eq!(
        check(&home, "redis").unwrap()["since"],
        since,
        "the state changed in between"
    );
    assert_eq!(count_events(&home, "redis", "down"), 0);

    // The first result for new settings takes effect at once.
    redis.set_password("a third one");
    home.write_env(&format!(
        "REDIS_HOST=localhost\nREDIS_PORT={}\nREDIS_PASSWORD=wrong\n",
        redis.port()
    ));
    home.run(["reload"]).succeeds();
    wait_for_state(&home, "redis", "down");
    assert!(check(&home, "postgresql").is_none());
    write(&home, &[&postgres]);
    assert!(check(&home, "redis").is_none());
    wait_for_state(&home, "postgresql", "up");
    eventually("the connection is closed", || {
        redis.client_connection().is_none()
    });
}

#[test]
fn certificates_are_verified_when_configured() {
    if !prerequisite_available("dependencies", PREREQUISITES, dependencies_available()) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let [ours, other] = ["ours", "other"].map(|name| Certificate::create(directory.path(), name));
    let servers: [(Box<dyn Dependency>, _, _, _); 2] = [
        (
            Box::new(Postgres::encrypted(&ours)),
            "DB_HOST",
            ("DB_SSLMODE", "verify-full"),
            "DB_SSLROOTCERT",
        ),
        (
            Box::new(Redis::encrypted(&ours)),
            "REDIS_HOST",
            ("REDIS_TLS", "on"),
            "REDIS_CACERT",
        ),
    ];
    for (server, host, (tls, verified), authority) in &servers {
        let name = server.name();
        let mut home = home_with_short_intervals();
        home.depends_on(&**server);
        home.set(tls, verified);
        let restart = |home: &Home, wanted: &str, why: &str| {
            home.run(["start"]).succeeds();
            wait_for_state(home, name, wanted);
            if wanted == "down" {
                let reason = last_error(home, name);
                assert!(reason.contains(why), "{reason}");
            }
            home.run(["stop"]).succeeds();
        };
        home.set(authority, ours.authority().to_str().unwrap());
        restart(&home, "up", "");
        home.set(authority, other.authority().to_str().unwrap());
        restart(&home, "down", "TLS: its certificate is ");
        home.unset(authority);
        restart(&home, "down", "TLS: its certificate is ");
        home.set(authority, ours.authority().to_str().unwrap());
        home.set(host, "127.0.0.1");
        restart(&home, "down", "its certificate is for another name");
    }

    let (postgres, ..) = &servers[0];
    let mut home = home_with_short_intervals();
    home.depends_on(&**postgres);
    home.set("DB_SSLMODE", "require");
    home.run(["start"]).succeeds();
    wait_for_state(&home, "postgresql", "up");

    let plain = Postgres::start();
    let mut home = home_with_short_intervals();
    home.depends_on(&plain);
    home.set("DB_SSLMODE", "require");
    home.run(["start"]).succeeds();
    wait_for_state(&home, "postgresql", "down");
    assert!(last_error(&home, "postgresql").starts_with("it does not offer TLS"));
}

#[test]
fn system_authorities_are_reread_after_failed_handshake() {
    if !prerequisite_available("dependencies", PREREQUISITES, dependencies_available()) {
        return;
    }
    let mut home = home_with_short_intervals();
    let [ours, other] = ["ours", "other"].map(|name| Certificate::create(home.path(), name));
    let trusted = home.path().join("trusted.pem");
    std::fs::copy(other.authority(), &trusted).unwrap();
    let server = Postgres::encrypted(&ours);
    home.depends_on(&server);
    home.set("DB_SSLMODE", "verify-full");
    home.set("SSL_CERT_FILE", trusted.to_str().unwrap());
    home.run(["start"]).succeeds();
    wait_for_state(&home, "postgresql", "down");
    let why = last_error(&home, "postgresql");
    assert!(why.starts_with("TLS: its certificate is "), "{why}");
    std::fs::copy(ours.authority(), &trusted).unwrap();
    wait_for_state(&home, "postgresql", "up");
}

#[test]
fn unused_root_certificate_is_refused() {
    let home = Home::new();
    let directory = tempfile::tempdir().unwrap();
    let authority = Certificate::create(directory.path(), "an").authority();
    let authority = authority.display();
    home.write_env(&format!(
        "DB_NAME=a\nDB_SSLMODE=require\nDB_SSLROOTCERT={authority}\nREDIS_HOST=localhost\nREDIS_CACERT={authority}\n"
    ));
    home.run(["config", "--check"]).exits(2).stderr_contains(&[
        "DB_SSLROOTCERT: no certificate is looked at without DB_SSLMODE=verify-full: set it, or remove this",
        "REDIS_CACERT: no certificate is looked at without REDIS_TLS=on: set it, or remove this",
    ]);
}

#[test]
fn all_invalid_dependency_settings_are_reported_at_once() {
    let home = Home::new();
    let no_pem = home.path().join("no.pem");
    std::fs::write(
        &no_pem,
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    home.write_env(&format!(
        "DB_HOST='a b'\nDB_SSLMODE=prefer\nDB_SSLROOTCERT=nowhere.pem\nREDIS_TLS=yes\nREDIS_CACERT={}\nCHECK_INTERVAL=1s\nCHECK_TIMEOUT=501ms\nDRAIN_DELAY=6m\n",
        no_pem.display()
    ));
    home.run(["config", "--check"]).exits(2).stderr_contains(&[
        "DB_HOST: `a b` is not",
        "DB_SSLMODE: `prefer` is none of disable, require and verify-full",
        "nowhere.pem cannot be read: No such file",
        "REDIS_TLS: `yes` is neither on nor off",
        "no.pem holds a certificate that is none of an authority",
        "CHECK_TIMEOUT: 501ms is more than half of CHECK_INTERVAL, which is 1s",
        "DRAIN_DELAY: `6m` is not a duration",
    ]);
}

/// An address that nothing else uses.
const HOST: &str = "127.0.0.77";

#[test]
fn password_and_host_are_never_disclosed() {
    if !prerequisite_available("dependencies", PREREQUISITES, dependencies_available()) {
        return;
    }
    let mut postgres = Postgres::start().at(HOST);
    let mut home = home_with_short_intervals();
    home.set("LOG_LEVEL", "TRACE,tokio_postgres=trace");
    home.depends_on(&postgres);
    home.set("REDIS_HOST", HOST);
    home.set("REDIS_PORT", &free_port().to_string());
    home.set("REDIS_PASSWORD", PASSWORD);
    home.unset("DB_PASSWORD");
    home.write_env(&format!("DB_PASSWORD='{PASSWORD}'\n"));
    home.run(["start"]).succeeds();
    eventually("PostgreSQL is up and Redis is down", || {
        (state(&home, "postgresql"), state(&home, "redis")) == ("up".into(), "down".into())
    });
    home.write_env("DB_PASSWORD='another secret of mine'\n");
    let mut outputs = vec![home.run(["reload"]).succeeds().stdout];
    eventually("the password is refused", || {
        state(&home, "postgresql") == "down"
    });
    outputs.push(home.run(["restart"]).succeeds().stdout);
    postgres.stop();
    eventually("PostgreSQL is unreachable", || {
        last_error(&home, "postgresql").contains("cannot be reached")
    });
    for path in ["/admin/status", "/admin/metrics", "/admin/logs?lines=10000"] {
        outputs.push(home.call_admin("GET", path).body);
    }
    for path in ["/health", "/health/ready"] {
        outputs.push(request(&home.public_address(), "GET", path, &[], "").body);
    }
    for command in ["status", "doctor"] {
        outputs.push(home.run([command]).stdout);
    }
    outputs.push(home.log());
    for text in outputs {
        for secret in [HOST, PASSWORD, "another secret of mine"] {
            let at = text.find(secret);
            assert!(
                at.is_none(),
                "{secret}: {}",
                &text[at.unwrap().saturating_sub(200)..]
            );
        }
    }
    assert!(home.log().contains("TRACE"));
}

/// Forwards each piece after a delay.
fn delaying_proxy(port: u16, delay: Duration) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own_port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            forward_both_ways(client, port, delay);
        }
    });
    own_port
}

fn forward_both_ways(client: TcpStream, port: u16, delay: Duration) {
    let server = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let pass = |mut from: TcpStream, mut to: TcpStream| {
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = from.read(&mut buffer) {
                thread::sleep(delay);
                if to.write_all(&buffer[..read]).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(std::net::Shutdown::Both);
        });
    };
    pass(client.try_clone().unwrap(), server.try_clone().unwrap());
    pass(server, client);
}

#[test]
fn health_stays_up_across_restarts() {
    if !prerequisite_available("dependencies", PREREQUISITES, dependencies_available()) {
        return;
    }
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let mut home = Home::new();
    home.set("CHECK_INTERVAL", "2s");
    home.set("CHECK_TIMEOUT", "1s");
    home.depends_on(&redis);
    home.depends_on(&postgres);
    let slow = delaying_proxy(redis.port(), Duration::from_millis(200));
    home.set("REDIS_PORT", &slow.to_string());
    home.run(["start"]).succeeds();
    let host = home.public_address();
    // A new daemon does not know the state yet.
    assert_eq!(state(&home, "redis"), "unknown");
    assert_eq!(request(&host, "GET", "/health", &[], "").status, 503);
    wait_for_state(&home, "redis", "up");
    eventually("both are up", || state(&home, "postgresql") == "up");
    let load = Load::start(&host, &LoadProfile::default());
    load.wait_for_more(100);
    for _ in 0..3 {
        home.restart();
        load.wait_for_more(100);
        wait_for_state(&home, "redis", "up");
    }
    load.finish().assert_flawless();
}

/// Statuses of `/health`, from fresh and from kept connections.
#[derive(Default)]
struct HealthStatuses(Mutex<Vec<u16>>);

impl HealthStatuses {
    fn poll(&self, host: &str, is_kept: bool, is_over: &AtomicBool) {
        let mut kept = None;
        while !is_over.load(Ordering::Relaxed) {
            let mut connection = kept.take().unwrap_or_else(|| Connection::open(host));
            connection.send("GET", "/health", &[], "");
            let answer = connection.read_response("GET");
            self.0.lock().unwrap().push(answer.status);
            let is_last = answer.header("connection") == Some("close");
            kept = (is_kept && !is_last).then_some(connection);
        }
    }

    fn wait_for_more(&self) {
        let enough = self.0.lock().unwrap().len() + 100;
        eventually("health responds", || self.0.lock().unwrap().len() >= enough);
    }
}

/// Number of probes of the active process with this outcome.
fn count_probes(home: &Home, name: &str, outcome: &str) -> f64 {
    let metrics = home.call_admin("GET", "/admin/metrics").body;
    let name = format!("fullon_check_probes_total{{check=\"{name}\",outcome=\"{outcome}\"}} ");
    let count = metrics.lines().find_map(|line| line.strip_prefix(&name));
    count.unwrap().parse().unwrap()
}

#[test]
fn health_stays_down_across_restarts() {
    if !prerequisite_available("dependencies", PREREQUISITES, dependencies_available()) {
        return;
    }
    let mut redis = Redis::start();
    let home = start_with(&redis);
    wait_for_state(&home, "redis", "up");
    redis.stop();
    wait_for_state(&home, "redis", "down");
    let before = check(&home, "redis").unwrap();
    let host = home.public_address();
    let (answers, over) = (HealthStatuses::default(), AtomicBool::new(false));
    thread::scope(|scope| {
        let end = SetOnDrop(&over);
        for is_kept in [false, true] {
            let (answers, over, host) = (&answers, &over, &host);
            scope.spawn(move || answers.poll(host, is_kept, over));
        }
        answers.wait_for_more();
        for _ in 0..3 {
            home.restart();
            answers.wait_for_more();
            eventually("the new process probes by itself", || {
                count_probes(&home, "redis", "error") > 1.0
            });
            assert_eq!(check(&home, "redis").unwrap(), before);
        }
        drop(end);
    });
    let unexpected = answers.0.lock().unwrap();
    let unexpected: Vec<_> = unexpected.iter().filter(|status| **status != 503).collect();
    assert!(unexpected.is_empty(), "{unexpected:?}");
    assert_eq!(count_events(&home, "redis", "down"), 1);
    redis.start();
    wait_for_state(&home, "redis", "up");
}

/// A proxy that drops one connection when the flag is set, and then clears the flag.
fn dropping_proxy(port: u16) -> (u16, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own_port = listener.local_addr().unwrap().port();
    let drop_next = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&drop_next);
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            if !flag.swap(false, Ordering::Relaxed) {
                forward_both_ways(client, port, Duration::ZERO);
            }
        }
    });
    (own_port, drop_next)
}

#[test]
fn first_lost_probe_of_new_process_is_no_outage() {
    if !prerequisite_available("dependencies", PREREQUISITES, dependencies_available()) {
        return;
    }
    let redis = Redis::start();
    let mut home = home_with_short_intervals();
    home.depends_on(&redis);
    let (port, drop_next) = dropping_proxy(redis.port());
    home.set("REDIS_PORT", &port.to_string());
    home.run(["start"]).succeeds();
    wait_for_state(&home, "redis", "up");
    let load = Load::start(&home.public_address(), &LoadProfile::default());
    load.wait_for_more(100);
    drop_next.store(true, Ordering::Relaxed);
    home.restart();
    eventually("the connection of the new process is lost", || {
        !drop_next.load(Ordering::Relaxed)
    });
    eventually("the failed probe is counted", || {
        count_probes(&home, "redis", "error") >= 1.0
    });
    load.wait_for_more(100);
    load.finish().assert_flawless();
    assert_eq!(count_events(&home, "redis", "down"), 0);
}

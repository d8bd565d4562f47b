//! Passwords, reloads, and settings that are refused.

use super::{
    check, count_events, home_with_short_intervals, last_error, servers_available, start_available,
    start_up, state, wait_for_state,
};
use crate::support::{Dependency, Home, PASSWORD, Postgres, Redis, eventually, free_port, request};

/// Every printable ASCII character and some others.
fn any_password() -> String {
    let ascii = (b' '..=b'~').map(char::from);
    ascii.chain("äß€日本🔑".chars()).collect()
}

#[test]
fn any_password_works_and_wrong_one_is_reported() {
    for mut dependency in start_available() {
        let name = dependency.name();
        let password = any_password();
        dependency.set_password(&password);
        let mut home = start_up(&*dependency);
        home.run(["stop"]).succeeds();

        home.set(dependency.password_setting(), "wrong");
        home.run(["start"]).succeeds();
        wait_for_state(&home, name, "down");
        assert_eq!(last_error(&home, name), "the server rejected the password");
        home.run(["stop"]).succeeds();

        home.unset(dependency.password_setting());
        home.run(["start"]).succeeds();
        wait_for_state(&home, name, "down");
        let setting = dependency.password_setting();
        let wanted = format!("the server requires a password, but {setting} is not set");
        assert_eq!(last_error(&home, name), wanted);
    }
}

#[test]
fn reload_applies_dependency_settings_at_once() {
    if !servers_available() {
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
fn all_invalid_dependency_settings_are_reported_at_once() {
    let home = Home::new();
    let no_pem = home.path().join("no.pem");
    std::fs::write(
        &no_pem,
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    home.write_env(&format!(
        "DB_HOST='a b'\nDB_SSLMODE=on\nDB_SSLROOTCERT=nowhere.pem\nREDIS_TLS=yes\nREDIS_CACERT={}\nCHECK_INTERVAL=1s\nCHECK_TIMEOUT=501ms\nDRAIN_DELAY=6m\n",
        no_pem.display()
    ));
    home.run(["config", "--check"]).exits(2).stderr_contains(&[
        "DB_HOST: `a b` is not",
        "DB_SSLMODE: `on` is not disable, allow, prefer, require, verify-ca or verify-full",
        "nowhere.pem cannot be read: No such file",
        "REDIS_TLS: `yes` is not on or off",
        "no.pem contains a certificate that is not a CA certificate",
        "CHECK_TIMEOUT: `501ms` is more than half of CHECK_INTERVAL (1s)",
        "DRAIN_DELAY: `6m` is not a duration",
    ]);
}

/// An address that nothing else uses.
const HOST: &str = "127.0.0.77";

#[test]
fn password_and_host_are_never_disclosed() {
    if !servers_available() {
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
        last_error(&home, "postgresql").contains("cannot connect")
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

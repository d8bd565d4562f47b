//! TLS: whose certificate is accepted.

use super::{home_with_short_intervals, last_error, servers_available, wait_for_state};
use crate::support::{Certificate, Dependency, Home, Postgres, Redis};

#[test]
fn certificates_are_verified_when_configured() {
    if !servers_available() {
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
        restart(&home, "down", "TLS: the certificate is ");
        home.unset(authority);
        restart(&home, "down", "TLS: the certificate is ");
        home.set(authority, ours.authority().to_str().unwrap());
        home.set(host, "127.0.0.1");
        restart(&home, "down", "the certificate is for another host name");
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
    assert!(last_error(&home, "postgresql").starts_with("the server does not support TLS"));
}

#[test]
fn system_authorities_are_reread_after_failed_handshake() {
    if !servers_available() {
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
    assert!(why.starts_with("TLS: the certificate is "), "{why}");
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
        "DB_SSLROOTCERT: has no effect without DB_SSLMODE=verify-full: set DB_SSLMODE=verify-full, or remove DB_SSLROOTCERT",
        "REDIS_CACERT: has no effect without REDIS_TLS=on: set REDIS_TLS=on, or remove REDIS_CACERT",
    ]);
}

//! TLS: whose certificate is accepted.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use super::{
    home_with_short_intervals, last_error, probe, reloaded_home, servers_available, wait_for_state,
};
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
fn unused_or_missing_certificate_is_refused() {
    let home = Home::new();
    let directory = tempfile::tempdir().unwrap();
    let [one, other] = ["one", "other"].map(|name| Certificate::create(directory.path(), name));
    let [authority, certificate, key, other_key] =
        [one.authority(), one.certificate(), one.key(), other.key()]
            .map(|path| path.display().to_string());
    let refused = |env: &str, messages: &[&str]| {
        home.write_env(&format!("DB_NAME=a\nREDIS_HOST=localhost\n{env}"));
        home.run(["config", "--check"])
            .exits(2)
            .stderr_contains(messages);
    };
    refused(
        &format!("DB_SSLROOTCERT={authority}\nREDIS_CACERT={authority}\n"),
        &[
            "DB_SSLROOTCERT: has no effect without DB_SSLMODE=verify-full: set DB_SSLMODE=verify-full, or remove DB_SSLROOTCERT",
            "REDIS_CACERT: has no effect without REDIS_TLS=on: set REDIS_TLS=on, or remove REDIS_CACERT",
        ],
    );
    refused(
        &format!("DB_SSLMODE=verify-ca\nREDIS_CERT={certificate}\nREDIS_KEY={key}\n"),
        &[
            "DB_SSLMODE: verify-ca needs DB_SSLROOTCERT",
            "REDIS_CERT: has no effect without REDIS_TLS=on",
            "REDIS_KEY: has no effect without REDIS_TLS=on",
        ],
    );
    refused(
        &format!("DB_SSLMODE=disable\nDB_SSLCERT={certificate}\nDB_SSLKEY={key}\n"),
        &[
            "DB_SSLCERT: has no effect without TLS: set DB_SSLMODE=verify-full, or remove DB_SSLCERT",
        ],
    );
    refused(
        "DB_SSLMODE=require\nDB_SSLROOTCERT=system\n",
        &["DB_SSLROOTCERT: trusts the authorities of the system, which sign for anybody"],
    );
    refused(
        &format!("DB_SSLCERT={certificate}\nREDIS_TLS=on\nREDIS_KEY={key}\n"),
        &[
            "DB_SSLCERT: needs its private key: set DB_SSLKEY",
            "REDIS_KEY: needs the certificate: set REDIS_CERT",
        ],
    );
    std::fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    std::fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    home.write_env(&format!(
        "DB_NAME=a\nDB_SSLCERT={certificate}\nDB_SSLKEY={key}\n"
    ));
    home.run(["config", "--check"])
        .succeeds()
        .stderr_contains(&[
            "server.key: contains the key of DB_SSLKEY and is readable by all users (mode 644)",
        ]);
    let encrypted = directory.path().join("encrypted.key");
    let pass = ["-aes256", "-passout", "pass:hunter2"];
    let mut arguments = vec!["pkey", "-in", &key, "-out", encrypted.to_str().unwrap()];
    arguments.extend(pass);
    one.openssl(&arguments);
    refused(
        &format!(
            "DB_SSLCERT={certificate}\nDB_SSLKEY={other_key}\nREDIS_TLS=on\nREDIS_CERT={certificate}\nREDIS_KEY={}\n",
            encrypted.display()
        ),
        &[
            "DB_SSLKEY: is not the key of the certificate in DB_SSLCERT",
            "encrypted.key is encrypted, and there is nobody to type its password: decrypt it with `openssl pkey`",
        ],
    );
    refused(
        &format!("DB_SSLCERT={key}\nDB_SSLKEY={certificate}\n"),
        &[
            "contains no certificate in PEM format",
            "contains no private key in PEM format",
        ],
    );
}

/// A server often has a certificate that nobody else signed. libpq and redis-cli accept it as its
/// own authority.
#[test]
fn self_signed_certificate_is_its_own_authority() {
    if !servers_available() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let home = reloaded_home();
    for (name, basic) in [("ca", "CA:TRUE"), ("leaf", "CA:FALSE")] {
        let certificate = Certificate::self_signed(directory.path(), name, "localhost", basic);
        let other = Certificate::self_signed(
            directory.path(),
            &format!("other-{name}"),
            "localhost",
            basic,
        );
        let servers: [(Box<dyn Dependency>, _, _, _); 2] = [
            (
                Box::new(Postgres::encrypted(&certificate)),
                "DB_HOST",
                ("DB_SSLMODE", "verify-full"),
                "DB_SSLROOTCERT",
            ),
            (
                Box::new(Redis::encrypted(&certificate)),
                "REDIS_HOST",
                ("REDIS_TLS", "on"),
                "REDIS_CACERT",
            ),
        ];
        for (server, host, verified, authority) in &servers {
            let [own_path, other_path] = [&certificate, &other].map(Certificate::authority);
            let mut settings: Vec<(&str, String)> = server.settings();
            settings.push((verified.0, verified.1.into()));
            settings.push((*authority, own_path.display().to_string()));
            let result = |settings: &[(&str, String)]| {
                let settings: Vec<_> = settings.iter().map(|(n, v)| (*n, v.as_str())).collect();
                probe(&home, server.name(), &settings)
            };
            assert_eq!(result(&settings), "up", "{name}");
            let mut by_address = settings.clone();
            by_address.retain(|(name, _)| name != host);
            by_address.push((*host, "127.0.0.1".into()));
            assert_eq!(
                result(&by_address),
                "TLS: the certificate is for another host name"
            );
            settings.pop();
            settings.push((*authority, other_path.display().to_string()));
            let reason = result(&settings);
            assert!(reason.starts_with("TLS: the certificate is "), "{reason}");
        }
    }
}

#[test]
fn client_certificates_are_presented_and_their_lack_is_explained() {
    if !servers_available() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let [ours, other] = ["ours", "other"].map(|name| Certificate::create(directory.path(), name));
    let [pair, foreign_pair] = [&ours, &other].map(|authority| authority.client("fullon"));
    let home = reloaded_home();
    let postgres = Postgres::with(Some(&ours), "hostssl all all 127.0.0.0/8 cert", &[]);
    let redis = Redis::with_tls(&ours, "yes");
    let postgres_files = ["DB_SSLROOTCERT", "DB_SSLCERT", "DB_SSLKEY"];
    let redis_files = ["REDIS_CACERT", "REDIS_CERT", "REDIS_KEY"];
    let with_postgres = (
        &postgres as &dyn Dependency,
        ("DB_SSLMODE", "verify-full"),
        postgres_files,
    );
    let with_redis = (&redis as &dyn Dependency, ("REDIS_TLS", "on"), redis_files);
    for (server, (mode, on), names) in [with_postgres, with_redis] {
        let result = |pair: Option<&[std::path::PathBuf; 2]>| {
            let mut settings = server.settings();
            settings.push((mode, on.into()));
            settings.push((names[0], ours.authority().display().to_string()));
            if let Some([certificate, key]) = pair {
                settings.push((names[1], certificate.display().to_string()));
                settings.push((names[2], key.display().to_string()));
            }
            let settings: Vec<_> = settings.iter().map(|(n, v)| (*n, v.as_str())).collect();
            probe(&home, server.name(), &settings)
        };
        assert_eq!(result(Some(&pair)), "up");
        let missing = match server.name() {
            "redis" => {
                "TLS: the server requires a client certificate: set DB_SSLCERT or REDIS_CERT"
            }
            _ => {
                "the server rejected the user, the client certificate or the kind of connection (see pg_hba.conf)"
            }
        };
        assert_eq!(result(None), missing);
        assert_eq!(
            result(Some(&foreign_pair)),
            "TLS: the server rejected the client certificate"
        );
    }
    let [certificate, key] = pair.map(|path| path.display().to_string());
    let url = format!(
        "postgres://fullon@localhost:{}/fullon?sslmode=require&sslcert={certificate}&sslkey={key}",
        postgres.port()
    );
    assert_eq!(probe(&home, "postgresql", &[("DATABASE_URL", &url)]), "up");
}

#[test]
fn client_that_expects_other_encryption_than_server_is_explained() {
    if !servers_available() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let ours = Certificate::create(directory.path(), "ours");
    let home = reloaded_home();
    let (plain, encrypted) = (Redis::start(), Redis::encrypted(&ours));
    let port = plain.port().to_string();
    let answer = probe(
        &home,
        "redis",
        &[
            ("REDIS_HOST", "localhost"),
            ("REDIS_PORT", &port),
            ("REDIS_TLS", "on"),
        ],
    );
    assert_eq!(
        answer,
        "no answer to the TLS handshake within 2s: the server may not speak TLS"
    );
    let port = encrypted.port().to_string();
    let settings = [("REDIS_HOST", "localhost"), ("REDIS_PORT", &port)];
    assert_eq!(
        probe(&home, "redis", &settings),
        "the server closed the connection at once: it may expect TLS (set REDIS_TLS=on)"
    );
}

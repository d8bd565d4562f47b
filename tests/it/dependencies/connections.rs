//! URLs, Unix sockets, several hosts, modes of TLS, users and databases, against real servers.

use std::net::TcpStream;

use super::{probe, reloaded_home, servers_available};
use crate::support::{
    Certificate, Dependency as _, PASSWORD, Pgbouncer, Postgres, Redis, free_port,
    prerequisite_available,
};

/// [`PASSWORD`] in a URL.
fn password_in_url() -> String {
    PASSWORD.replace(' ', "%20")
}

#[test]
fn postgresql_is_reached_by_url_and_unix_socket() {
    if !servers_available() {
        return;
    }
    let server = Postgres::start();
    let home = reloaded_home();
    let (port, password) = (server.port().to_string(), password_in_url());
    let directory = server.socket_directory().display().to_string();
    let encoded = directory.replace('/', "%2F");
    let socket = format!("{directory}/.s.PGSQL.{port}");
    let by_parts = [("DB_NAME", "fullon"), ("DB_USER", "fullon")];
    for host in [("DB_HOST", directory.as_str()), ("DB_HOST", &socket)] {
        let settings = [&by_parts[..], &[host, ("DB_PORT", &port)]].concat();
        assert_eq!(probe(&home, "postgresql", &settings), "up", "{host:?}");
    }
    for url in [
        format!("postgres://fullon:{password}@localhost:{port}/fullon"),
        format!("postgresql+asyncpg://fullon:{password}@127.0.0.1:{port}/fullon?sslmode=prefer"),
        format!("postgresql://fullon@{encoded}:{port}/fullon"),
        format!("postgresql:///fullon?host={directory}&port={port}&user=fullon"),
        format!("postgres://fullon:{password}@nowhere.invalid:{port}/fullon?hostaddr=127.0.0.1"),
        // The database has the name of the user.
        format!("postgres://fullon:{password}@localhost:{port}"),
        format!("postgres://fullon:{password}@localhost:{port}/?options=-c%20geqo%3Doff"),
    ] {
        let settings = [("DATABASE_URL", url.as_str())];
        assert_eq!(probe(&home, "postgresql", &settings), "up", "{url}");
    }
    // The password is apart, as in a secret of its own.
    let url = format!("postgres://fullon@localhost:{port}/fullon");
    let settings = [("DATABASE_URL", url.as_str()), ("DB_PASSWORD", PASSWORD)];
    assert_eq!(probe(&home, "postgresql", &settings), "up");

    home.write_env(&format!(
        "DATABASE_URL='{url}'\nDB_HOST=127.0.0.1\nDB_NAME=fullon\n"
    ));
    home.run(["config", "--check"]).exits(2).stderr_contains(&[
        "DB_HOST: differs from DATABASE_URL: remove it, or the part of the URL",
    ]);
    home.write_env("DATABASE_URL=mysql://me:hunter2@db/x\nREDIS_URL=redis://:hunter2@db/x\n");
    let outcome = home.run(["config", "--check"]).exits(2).stderr_contains(&[
        "DATABASE_URL: is not a URL such as postgres://",
        "REDIS_URL: has a database that is not a number",
    ]);
    assert!(!outcome.stderr.contains("hunter2"), "{outcome:?}");
    assert_eq!(
        probe(
            &home,
            "postgresql",
            &[("DB_HOST", "/nowhere"), ("DB_NAME", "x")]
        ),
        "cannot connect: entity not found"
    );
}

#[test]
fn first_usable_host_of_several_is_used() {
    if !servers_available() {
        return;
    }
    let (server, replica) = (Postgres::start(), Postgres::start());
    replica.sql("ALTER ROLE fullon SET default_transaction_read_only = on");
    let home = reloaded_home();
    let password = password_in_url();
    let (dead, port, read_only) = (free_port(), server.port(), replica.port());
    let credentials = [
        ("DB_NAME", "fullon"),
        ("DB_USER", "fullon"),
        ("DB_PASSWORD", PASSWORD),
    ];
    let ports = format!("{dead},1,{port}");
    let hosts = [
        ("DB_HOST", "127.0.0.1,nowhere.invalid,localhost"),
        ("DB_PORT", &ports),
    ];
    let settings = [&credentials[..], &hosts].concat();
    assert_eq!(probe(&home, "postgresql", &settings), "up");
    assert!(server.client_connection().is_some());

    let by_url = |hosts: &str, parameters: &str| {
        let url = format!("postgres://fullon:{password}@{hosts}/fullon?{parameters}");
        probe(&home, "postgresql", &[("DATABASE_URL", &url)])
    };
    let both = format!("127.0.0.1:{read_only},127.0.0.1:{port}");
    assert_eq!(by_url(&both, ""), "up");
    assert!(replica.client_connection().is_some() && server.client_connection().is_none());
    assert_eq!(by_url(&both, "target_session_attrs=read-write"), "up");
    assert!(server.client_connection().is_some());
    assert_eq!(by_url(&both, "load_balance_hosts=random"), "up");
    let only = format!("127.0.0.1:{dead},127.0.0.1:{read_only}");
    assert_eq!(
        by_url(&only, "target_session_attrs=read-write"),
        "the server is read-only"
    );
    assert_eq!(
        by_url(
            &format!("127.0.0.1:{port}"),
            "target_session_attrs=read-only"
        ),
        "the server is not read-only"
    );
    // The error of the server that answers is shown.
    let wrong = format!("postgres://fullon:wrong@127.0.0.1:{port},127.0.0.1:{dead}/fullon");
    assert_eq!(
        probe(&home, "postgresql", &[("DATABASE_URL", &wrong)]),
        "the server rejected the password"
    );
    home.write_env("DB_NAME=x\nDB_HOST=a,b\nDB_PORT=1,2,3\n");
    home.run(["config", "--check"])
        .exits(2)
        .stderr_contains(&["DB_PORT: has 3 ports, but there are 2 hosts"]);
    home.write_env("DB_NAME=x\nDB_HOST=a:1,b:2\n");
    home.run(["config", "--check"])
        .exits(2)
        .stderr_contains(&["set DB_HOST to the hosts and DB_PORT to their ports"]);
}

/// All modes of libpq, with servers that admit encrypted clients, unencrypted ones, or both.
#[test]
fn modes_of_libpq_encrypt_as_it_does() {
    if !servers_available() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let ours = Certificate::create(directory.path(), "ours");
    let home = reloaded_home();
    let method = "all all 127.0.0.0/8 scram-sha-256";
    let both = Postgres::with(Some(&ours), &format!("host {method}"), &[]);
    let only_encrypted = Postgres::with(Some(&ours), &format!("hostssl {method}"), &[]);
    let only_plain = Postgres::with(Some(&ours), &format!("hostnossl {method}"), &[]);
    let unable = Postgres::start();
    let (off, on) = ("f", "t");
    let refused = "the server rejected the user, the client certificate or the kind of connection (see pg_hba.conf)";
    let unsupported = "the server does not support TLS, which the settings require";
    let root = ours.authority().display().to_string();
    for (mode, expected) in [
        ("disable", [off, refused, off, off]),
        ("allow", [off, on, off, off]),
        ("prefer", [on, on, off, off]),
        ("require", [on, on, refused, unsupported]),
        ("verify-ca", [on, on, refused, unsupported]),
        ("verify-full", [on, on, refused, unsupported]),
    ] {
        let servers = [&both, &only_encrypted, &only_plain, &unable];
        for (server, expected) in servers.into_iter().zip(expected) {
            let mut settings = server.settings();
            settings.push(("DB_SSLMODE", mode.into()));
            if mode.starts_with("verify") {
                settings.push(("DB_SSLROOTCERT", root.clone()));
            }
            let settings: Vec<_> = settings.iter().map(|(n, v)| (*n, v.as_str())).collect();
            let result = probe(&home, "postgresql", &settings);
            if expected.len() == 1 {
                assert_eq!(result, "up", "{mode}");
                assert_eq!(server.is_client_encrypted(), expected, "{mode}");
            } else {
                assert_eq!(result, expected, "{mode}");
            }
        }
    }
    // Another name than that of the certificate.
    let result = |mode: &str, root: &str| {
        let port = both.port().to_string();
        let settings = [
            ("DB_HOST", "127.0.0.1"),
            ("DB_PORT", &port),
            ("DB_USER", "fullon"),
            ("DB_NAME", "fullon"),
            ("DB_PASSWORD", PASSWORD),
            ("DB_SSLMODE", mode),
            ("DB_SSLROOTCERT", root),
        ];
        probe(&home, "postgresql", &settings)
    };
    let other = Certificate::create(directory.path(), "other").authority();
    let other = other.display().to_string();
    for mode in ["verify-ca", "require"] {
        assert_eq!(result(mode, &root), "up", "{mode}");
        assert!(
            result(mode, &other).starts_with("TLS: the certificate is "),
            "{mode}"
        );
    }
    assert_eq!(
        result("verify-full", &root),
        "TLS: the certificate is for another host name"
    );
}

#[test]
fn postgresql_is_reached_through_pgbouncer() {
    let needed = Pgbouncer::is_available();
    if !servers_available() || !prerequisite_available("dependencies", "pgbouncer", needed) {
        return;
    }
    let server = Postgres::start();
    let pool = Pgbouncer::start(&server);
    let home = reloaded_home();
    let (port, password) = (pool.port(), password_in_url());
    let url = |rest: &str| format!("postgres://fullon:{password}@localhost:{port}/fullon{rest}");
    let result = |url: &str| probe(&home, "postgresql", &[("DATABASE_URL", url)]);
    assert_eq!(result(&url("")), "up");
    assert!(server.client_connection().is_some());
    // A pool refuses options of a session.
    assert_eq!(
        result(&url("?options=-c%20geqo%3Doff")),
        "the server returned the error 08P01"
    );
    assert_eq!(
        result(&url("?sslmode=require")),
        "the server does not support TLS, which the settings require"
    );
    let wrong = format!("postgres://fullon:wrong@localhost:{port}/fullon");
    // The code of pgbouncer for this, too.
    let refused = result(&wrong);
    assert_eq!(refused, "the server returned the error 08P01");
}

/// `tokio_postgres` has no typed access to the kinds of these errors, so their texts are tested
/// with each method of the server.
#[test]
fn missing_password_and_unsupported_method_are_told_apart() {
    if !servers_available() {
        return;
    }
    let home = reloaded_home();
    for (method, expected) in [
        (
            "scram-sha-256",
            "the server requires a password, but DB_PASSWORD is not set",
        ),
        (
            "md5",
            "the server requires a password, but DB_PASSWORD is not set",
        ),
        (
            "password",
            "the server requires a password, but DB_PASSWORD is not set",
        ),
        ("trust", "up"),
        (
            "gss",
            "the server requires an unsupported authentication method, or its own part of the authentication failed",
        ),
        (
            "reject",
            "the server rejected the user, the client certificate or the kind of connection (see pg_hba.conf)",
        ),
    ] {
        let options: &[&str] = if method == "md5" {
            &["password_encryption=md5"]
        } else {
            &[]
        };
        let server = Postgres::with(None, &format!("host all all 127.0.0.0/8 {method}"), options);
        let port = server.port().to_string();
        let mut settings = vec![
            ("DB_PORT", port.as_str()),
            ("DB_USER", "fullon"),
            ("DB_NAME", "fullon"),
        ];
        assert_eq!(probe(&home, "postgresql", &settings), expected, "{method}");
        if expected.contains("DB_PASSWORD") {
            settings.push(("DB_PASSWORD", PASSWORD));
            assert_eq!(probe(&home, "postgresql", &settings), "up", "{method}");
        }
    }
}

#[test]
fn redis_is_reached_by_url_unix_socket_user_and_database() {
    if !servers_available() {
        return;
    }
    let server = Redis::start();
    let home = reloaded_home();
    let (port, password) = (server.port().to_string(), password_in_url());
    for user in [
        ["pinger", "on", ">a b", "+ping", "+select"],
        ["open", "on", "nopass", "+ping", "+select"],
        ["mute", "on", ">a b", "+auth", "+select"],
    ] {
        server.command(&[&["ACL", "SETUSER"][..], &user].concat());
    }
    let socket = server.socket().display().to_string();
    let by_socket = [
        ("REDIS_HOST", socket.as_str()),
        ("REDIS_PASSWORD", PASSWORD),
        ("REDIS_DB", "3"),
    ];
    assert_eq!(probe(&home, "redis", &by_socket), "up");
    assert!(server.command(&["CLIENT", "LIST"]).contains(" db=3 "));
    for (url, expected) in [
        (format!("redis://:{password}@localhost:{port}"), "up"),
        (
            format!("redis://default:{password}@127.0.0.1:{port}/2"),
            "up",
        ),
        (format!("redis://pinger:a%20b@localhost:{port}/1"), "up"),
        (format!("redis://open@localhost:{port}"), "up"),
        (format!("unix://pinger:a%20b@{socket}?db=1"), "up"),
        (format!("redis+unix://{socket}?user=pinger&pass=a+b"), "up"),
        (
            format!("redis://mute:a%20b@localhost:{port}"),
            "the user may not run PING or SELECT on the server: see its ACL",
        ),
        (
            format!("redis://pinger:wrong@localhost:{port}"),
            "the server rejected the user or the password",
        ),
        (
            format!("redis://localhost:{port}"),
            "the server requires a password, but REDIS_PASSWORD is not set",
        ),
        (
            format!("redis://:{password}@localhost:{port}/99"),
            "the server has no database with this number, see REDIS_DB",
        ),
    ] {
        let settings = [("REDIS_URL", url.as_str())];
        assert_eq!(probe(&home, "redis", &settings), expected, "{url}");
    }
    // A server without a default user.
    let by_parts = [
        ("REDIS_HOST", "localhost"),
        ("REDIS_PORT", &port),
        ("REDIS_USERNAME", "pinger"),
        ("REDIS_PASSWORD", "a b"),
    ];
    server.command(&["ACL", "SETUSER", "default", "+@all"]);
    assert_eq!(probe(&home, "redis", &by_parts), "up");
    // The only error that Redis tells by its text.
    let other_client = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    server.command(&["CONFIG", "SET", "maxclients", "1"]);
    assert_eq!(
        probe(&home, "redis", &by_parts),
        "the server has too many connections"
    );
    drop(other_client);

    home.write_env("REDIS_URL=rediss://localhost\nREDIS_TLS=off\n");
    home.run(["config", "--check"])
        .exits(2)
        .stderr_contains(&["REDIS_TLS: differs from REDIS_URL"]);
    home.write_env("REDIS_HOST=/run/redis.sock\nREDIS_TLS=on\n");
    home.run(["config", "--check"])
        .exits(2)
        .stderr_contains(&["REDIS_TLS: TLS is not used on a Unix socket"]);
}

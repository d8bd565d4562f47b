//! Messages of HTTP/1.1 (RFC 9112): hosts, framing, connections, and the caching of responses.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;

use crate::support::{
    Connection, Home, Response, eventually, free_port, prerequisite_available, request, spawn,
};

/// Installed where not every `PATH` leads.
const VARNISH: &str = "/usr/sbin/varnishd";

/// Sends these bytes and returns the response, and whether the connection stays open. The next
/// request is sent with the first one, as a program with a pipeline or behind a proxy does.
fn exchange(host: &str, message: &str) -> (Response, bool) {
    let mut connection = Connection::open(host);
    let next = format!("GET /health/live HTTP/1.1\r\nHost: {host}\r\n\r\n");
    connection.send_bytes(format!("{message}{next}").as_bytes());
    let method = message.split(' ').next().unwrap();
    let answer = connection.read_response(method);
    let is_open =
        answer.header("connection") != Some("close") && !message.contains(" HTTP/1.0\r\n");
    if is_open {
        let status = connection.read_response("GET").status;
        assert!(matches!(status, 200 | 404), "{message:?}: {status}");
    } else {
        assert_eq!(connection.read_to_end(), "", "{message:?}");
    }
    (answer, is_open)
}

#[test]
fn request_needs_one_valid_host() {
    let home = Home::started();
    let hosts = [
        "",
        "Host: a\r\nHost: a\r\n",
        "Host: a\r\nHost: b\r\n",
        "Host: a b/c\r\n",
        "Host: a/b\r\n",
        "Host: user@a\r\n",
        "Host: a,b\r\n\u{20}x: y\r\n",
        "Host: a:b\r\n",
        "Host: a:65536\r\n",
        "Host: a:1:2\r\n",
        "Host: ::1\r\n",
        "Host: [::1\r\n",
        "Host: [::1]x\r\n",
        "Host: [localhost]\r\n",
        "Host: a%zz\r\n",
        "Host: a\\b\r\n",
        "Host: \u{e4}\r\n",
    ];
    for address in [home.public_address(), home.admin_address()] {
        for path in [
            "/health",
            "/health/live",
            "/nothing",
            "http://localhost/health",
        ] {
            for host in hosts {
                let message = format!("GET {path} HTTP/1.1\r\n{host}\r\n");
                let (answer, is_open) = exchange(&address, &message);
                assert_eq!((answer.status, is_open), (400, false), "{message:?}");
                assert!(answer.header("x-request-id").is_some(), "{message:?}");
            }
        }
        let twice = "GET /health HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n";
        let (answer, _) = exchange(&address, twice);
        assert_eq!(answer.status, 400);
    }
    let (answer, _) = exchange(&home.public_address(), "GET /health HTTP/1.1\r\n\r\n");
    answer.assert_problem(400, "Host");
    assert!(
        home.log()
            .contains("method=GET path=\"/nothing\" status=400"),
        "{}",
        home.log()
    );

    for host in [
        "Host: a",
        "Host:",
        "Host: A-b_c.example:80",
        "Host: a:",
        "Host: 127.0.0.1:00080",
        "Host: [::ffff:127.0.0.1]:8000",
        "host: xn--bcher-kva.example.",
        "Host: a%20b!$&'()*+,;=~",
    ] {
        let message = format!("GET /health HTTP/1.1\r\n{host}\r\n\r\n");
        let (answer, is_open) = exchange(&home.public_address(), &message);
        assert_eq!((answer.status, is_open), (200, true), "{host}");
    }
    // HTTP/1.0 has no Host, and load balancers check the health with it.
    let (answer, _) = exchange(&home.public_address(), "GET /health HTTP/1.0\r\n\r\n");
    assert_eq!(answer.status, 200);
}

/// The authority of an absolute target replaces `Host` (RFC 9112, section 3.2.2).
#[test]
fn host_of_absolute_target_takes_precedence() {
    let home = Home::started();
    let (public, admin) = (home.public_address(), home.admin_address());
    let status = |address: &str, target: &str, host: &str| {
        let message = format!(
            "GET {target} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {}\r\n\r\n",
            home.bearer()
        );
        exchange(address, &message).0.status
    };
    let at = |authority: &str| format!("http://{authority}/admin/status");
    assert_eq!(status(&admin, &at("localhost"), "localhost"), 200);
    assert_eq!(status(&admin, &at("localhost:9"), "evil.example"), 200);
    assert_eq!(status(&admin, &at("evil.example"), "localhost"), 403);
    assert_eq!(status(&admin, &at("user@localhost"), "localhost"), 400);
    assert_eq!(status(&public, "http://evil.example/health", "a"), 200);
    assert_eq!(status(&public, "http://a", "a"), 200);
    assert_eq!(status(&public, "http://user:secret@a/health", "a"), 400);
    // The origin of a page is compared with the same host.
    let origin = |target: &str| {
        let message = format!(
            "GET {target} HTTP/1.1\r\nHost: localhost:1\r\nOrigin: http://localhost:1\r\nAuthorization: {}\r\n\r\n",
            home.bearer()
        );
        exchange(&admin, &message).0.status
    };
    assert_eq!(origin("http://localhost:2/admin/status"), 403);
    assert_eq!(origin("/admin/status"), 200);
}

#[test]
fn targets_that_are_no_path_are_answered() {
    let home = Home::started();
    for address in [home.public_address(), home.admin_address()] {
        let (answer, is_open) = exchange(&address, "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!((answer.status, is_open), (204, true));
        let connect = "CONNECT localhost:80 HTTP/1.1\r\nHost: localhost:80\r\n\r\n";
        let (answer, _) = exchange(&address, connect);
        answer.assert_problem(405, "CONNECT");
        assert_eq!(answer.header("allow"), Some(""));
        // With `/`, they would be paths.
        for target in ["GET *", "POST *", "GET localhost:80", "GET console"] {
            let message =
                format!("{target} HTTP/1.1\r\nHost: localhost:1\r\nAccept: text/html\r\n\r\n");
            let (answer, is_open) = exchange(&address, &message);
            answer.assert_problem(400, "target");
            assert_eq!(
                (answer.header("location"), is_open),
                (None, false),
                "{target}"
            );
        }
    }
}

/// A proxy that reads such a message in another way would see another end of it.
#[test]
fn transfer_coding_other_than_chunked_is_refused() {
    let home = Home::started();
    let chunks = "4\r\nabcd\r\n0\r\n\r\n";
    for address in [home.public_address(), home.admin_address()] {
        for request in [
            "GET /health",
            "GET /health/live",
            "POST /",
            "POST /admin/stop",
        ] {
            let status = |codings: &str| {
                let message =
                    format!("{request} HTTP/1.1\r\nHost: localhost\r\n{codings}\r\n\r\n{chunks}");
                let (answer, is_open) = exchange(&address, &message);
                assert!(!is_open, "{message:?}");
                answer.status
            };
            for codings in [
                "gzip, chunked",
                "deflate,chunked",
                "identity, chunked",
                "x;a=b,chunked",
            ] {
                let header = format!("Transfer-Encoding: {codings}");
                assert_eq!(status(&header), 501, "{request} {codings}");
            }
            for codings in [
                "chunked, chunked",
                ",chunked",
                "chunked\r\nTransfer-Encoding: chunked",
                "gzip",
                "chunked;a=b",
                "chunked, gzip",
            ] {
                let header = format!("Transfer-Encoding: {codings}");
                assert_eq!(status(&header), 400, "{request} {codings}");
            }
            let header = "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked";
            assert_eq!(status(header), 501, "{request}");
            // hyper ignores the length, as RFC 9112 asks for, and the connection ends.
            for header in [
                "Content-Length: 3\r\nTransfer-Encoding: chunked",
                "Transfer-Encoding: chunked\r\nContent-Length: 3",
            ] {
                status(header);
            }
        }
    }
    let allowed =
        format!("GET /health HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \tChunked \r\n\r\n{chunks}");
    assert_eq!(exchange(&home.public_address(), &allowed).0.status, 200);
}

#[test]
fn whole_body_keeps_the_connection() {
    let mut home = Home::new();
    home.set("MAX_BODY_SIZE", "256KiB");
    home.run(["start"]).succeeds();
    let (public, admin) = (home.public_address(), home.admin_address());
    let bearer = home.bearer();
    let authorised = format!("Authorization: {bearer}\r\nContent-Type: application/json\r\n");
    let level = r#"{"level":"INFO"}"#;
    for (address, request, headers, body, status) in [
        (&public, "GET /health", "", "abcd", 200),
        (&public, "GET /health/live", "", "abcd", 200),
        (&public, "GET /health/live", "", "", 200),
        (&public, "GET /nothing", "", "abcd", 404),
        (&public, "POST /", "", "abcd", 405),
        (&admin, "GET /admin/status", "", "abcd", 401),
        (&admin, "GET /admin/status", &authorised, "{}", 200),
        (&admin, "POST /admin/reload", &authorised, "null", 200),
        (&admin, "PUT /admin/log-level", &authorised, level, 200),
        (&admin, "PUT /admin/log-level", &authorised, "{}", 400),
        (
            &admin,
            "GET /admin/status",
            "Origin: http://a\r\n",
            "{}",
            403,
        ),
    ] {
        let head = format!("{request} HTTP/1.1\r\nHost: {address}\r\n{headers}");
        let length = body.len();
        let chunk = if body.is_empty() {
            String::new()
        } else {
            format!("{length:x}\r\n{body}\r\n")
        };
        for message in [
            format!("{head}Content-Length: {length}\r\n\r\n{body}"),
            format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunk}0\r\n\r\n"),
            format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunk}0\r\nX-Trailer: a\r\n\r\n"),
        ] {
            let (answer, is_open) = exchange(address, &message);
            assert_eq!((answer.status, is_open), (status, true), "{message:?}");
        }
    }
    // The client sends the body only after `100 Continue`.
    for request in ["GET /health/live", "POST /", "GET /nothing"] {
        let head = format!("{request} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n");
        let mut connection = Connection::open(&public);
        connection.send_bytes(format!("{head}Content-Length: 4\r\n\r\n").as_bytes());
        let answer = connection.read_response("GET");
        assert_eq!(answer.header("connection"), Some("close"), "{answer:#?}");
        assert_ne!(answer.status, 100);
    }
    // A body that has not arrived ends the connection: the rest may be long.
    let mut connection = Connection::open(&public);
    connection
        .send_bytes(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
    let answer = connection.read_response("POST");
    assert_eq!(
        (answer.status, answer.header("connection")),
        (405, Some("close"))
    );
}

/// A cache in front of the port would answer for a daemon that has stopped.
#[test]
fn responses_that_change_are_not_stored() {
    let home = Home::started();
    let host = home.public_address();
    for (method, path, status) in [
        ("GET", "/health", 200),
        ("HEAD", "/health", 200),
        ("GET", "/health/live", 200),
        ("GET", "/health/ready", 200),
        ("GET", "/", 200),
        ("GET", "/nothing", 404),
        ("POST", "/health", 405),
        ("GET", "/health?a=b", 200),
    ] {
        let answer = request(&host, method, path, &[], "");
        assert_eq!(
            (answer.status, answer.header("cache-control")),
            (status, Some("no-store")),
            "{method} {path}"
        );
    }
    // These have an ETag.
    for path in ["/docs", "/openapi.json"] {
        let answer = request(&host, "GET", path, &[], "");
        let caching = (answer.status, answer.header("cache-control"));
        assert_eq!(caching, (200, Some("no-cache")), "{path}");
    }
}

/// Varnish stores a response for two minutes if nothing forbids it.
#[test]
fn cache_does_not_answer_for_a_stopped_daemon() {
    let needed = "varnishd (scripts/install-test-tools.sh)";
    if !prerequisite_available("the cache", needed, Path::new(VARNISH).is_file()) {
        return;
    }
    let home = Home::started();
    let (port, address) = (free_port(), home.public_address());
    let (host, backend_port) = address.split_once(':').unwrap();
    let configuration = home.path().join("default.vcl");
    let backend = format!(".host = \"{host}\"; .port = \"{backend_port}\";");
    fs::write(
        &configuration,
        format!("vcl 4.1;\nbackend default {{ {backend} }}\n"),
    )
    .unwrap();
    let mut command = home.command(VARNISH);
    command
        .args(["-F", "-j", "none", "-s", "malloc,8m", "-a"])
        .arg(format!("127.0.0.1:{port}"))
        .arg("-n")
        .arg(home.path().join("varnish"))
        .arg("-f")
        .arg(&configuration);
    let _varnish = spawn(command.stdout(Stdio::null()).stderr(Stdio::null()));
    eventually("Varnish listens", || {
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    let cache = format!("127.0.0.1:{port}");
    let status = |path: &str| request(&cache, "GET", path, &[], "").status;
    let paths = [
        ("/health", 200),
        ("/health/live", 200),
        ("/health/ready", 200),
        ("/", 200),
        ("/nothing", 404),
    ];
    for (path, expected) in paths {
        assert_eq!(status(path), expected, "{path}");
    }
    home.run(["stop"]).succeeds();
    for (path, _) in paths {
        assert_eq!(status(path), 503, "{path}");
    }
}

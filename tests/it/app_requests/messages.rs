//! The form of requests and responses.

use std::thread;

use super::server::{Server, Worker, ok};

#[test]
fn request_and_response_pass_through() {
    let server = Server::start();
    let (listener, _) = server.worker();
    let mut client = server.client();
    client.send("POST /a%2Fb//c?x=%20&y HTTP/1.1\r\nHost: shop.example\r\nCookie: a=b\r\nContent-Length: 5\r\nUser_Id: 7\r\nX-Real-IP: 6.6.6.6\r\n\r\nhello");
    let mut worker = Worker::accept(&listener);
    let request = worker.read_request().unwrap();
    assert!(
        request
            .head
            .starts_with("POST /a%2Fb//c?x=%20&y HTTP/1.1\r\n"),
        "{request:?}"
    );
    assert_eq!(request.body, "hello");
    assert_eq!(request.all("host"), ["shop.example"]);
    assert_eq!(request.all("cookie"), ["a=b"]);
    assert_eq!(request.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(request.all("x-forwarded-proto"), ["http"]);
    assert_eq!(request.all("x-forwarded-host"), ["shop.example"]);
    assert_eq!(request.all("traceparent").len(), 1);
    for removed in ["user_id", "x-real-ip", "transfer-encoding", "connection"] {
        assert_eq!(request.all(removed), [""; 0], "{request:?}");
    }
    worker.send("HTTP/1.1 201 Made\r\nContent-Length: 2\r\nContent-Type: text/html\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\nKeep-Alive: timeout=5\r\nDate: x\r\n\r\nok");
    let response = client.read_until("\r\n\r\nok");
    let id = request.all("x-request-id")[0];
    let expected = format!(
        "HTTP/1.1 201 Made\r\ncontent-type: text/html\r\nset-cookie: a=b\r\nset-cookie: c=d\r\ndate: x\r\ncontent-length: 2\r\nx-request-id: {id}\r\n\r\nok"
    );
    let lines = |text: &str| {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines[1..].sort();
        lines
    };
    assert_eq!(lines(&response), lines(&expected));
}

#[test]
fn only_health_checks_stay_with_the_daemon() {
    let server = Server::start();
    server.responder(|request| ok(&format!("app {}", request.target())));
    for (path, is_app) in [
        ("/", true),
        ("/docs", true),
        ("/openapi.json", true),
        ("/health/", true),
        ("/healthy", true),
        ("/health", false),
        ("/health/live", false),
        ("/health/ready", false),
        ("/health?x", false),
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let response = server.ask(&request);
        assert!(
            response.starts_with("HTTP/1.1 200 OK\r\n"),
            "{path}: {response}"
        );
        assert_eq!(
            response.ends_with(&format!("app {path}")),
            is_app,
            "{response}"
        );
    }
}

#[test]
fn connections_to_workers_are_kept_for_a_second() {
    let server = Server::start();
    let (listener, upstream) = server.worker();
    let mut client = server.client();
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    let mut worker = Worker::accept(&listener);
    for _ in 0..2 {
        worker.read_request().unwrap();
        worker.send(&ok("kept"));
        client.read_until("kept");
    }
    assert_eq!(upstream.in_flight(), 0);
    worker.assert_closed();
}

#[test]
fn responses_without_body_keep_their_headers() {
    let server = Server::start();
    server.responder(|request| match request.target() {
        "/length" => "HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n".into(),
        "/chunked" => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".into(),
        "/204" => "HTTP/1.1 204 No Content\r\n\r\n".into(),
        _ => "HTTP/1.1 304 Not Modified\r\ncontent-length: 99\r\netag: x\r\n\r\n".into(),
    });
    // One connection in each direction: a wrong framing would shift the next response.
    let mut client = server.client();
    for _ in 0..2 {
        for (request, status, length) in [
            ("HEAD /length", "200 OK", Some("content-length: 1234\r\n")),
            ("HEAD /chunked", "200 OK", None),
            ("GET /204", "204 No Content", None),
            ("GET /304", "304 Not Modified", None),
        ] {
            client.send(&format!("{request} HTTP/1.1\r\nHost: a\r\n\r\n"));
            let head = client.read_until("\r\n\r\n");
            assert!(
                head.starts_with(&format!("HTTP/1.1 {status}\r\n")),
                "{head}"
            );
            match length {
                Some(length) => assert!(head.contains(length), "{request}: {head}"),
                None => assert!(!head.contains("content-length"), "{request}: {head}"),
            }
        }
    }
}

#[test]
fn worker_of_http_1_0_and_client_of_http_1_0() {
    let server = Server::start();
    let (listener, _) = server.worker();
    thread::spawn(move || {
        for _ in 0..2 {
            let mut worker = Worker::accept(&listener);
            let request = worker.read_request().unwrap();
            assert!(
                request.head.starts_with("GET / HTTP/1.1\r\n"),
                "{request:?}"
            );
            let host = request.all("host")[0];
            worker.send(&format!("HTTP/1.0 200 OK\r\n\r\nfor {host}"));
        }
    });
    let mut client = server.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let response = client.read_until("\r\n0\r\n\r\n");
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    assert!(
        response.contains("transfer-encoding: chunked\r\n"),
        "{response}"
    );
    assert!(response.contains("\r\n5\r\nfor a\r\n"), "{response}");
    let response = server.ask("GET / HTTP/1.0\r\n\r\n");
    assert!(response.starts_with("HTTP/1.0 200 OK\r\n"), "{response}");
    assert!(!response.contains("transfer-encoding"), "{response}");
    let address = server.address;
    assert!(
        response.ends_with(&format!("\r\n\r\nfor {address}")),
        "{response}"
    );
}

#[test]
fn bodies_of_unknown_length_arrive() {
    let server = Server::start();
    server.responder(|request| {
        ok(&format!(
            "{:?}",
            (&request.body, request.all("content-length"))
        ))
    });
    let mut client = server.client();
    for method in ["POST", "GET"] {
        client.send(&format!(
            "{method} / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
        ));
        client.send("2;x=y\r\nde\r\n0\r\nX-Trailer: x\r\n\r\n");
        client.read_until(r#"("abcde", ["5"])"#);
        client.send(&format!(
            "{method} / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        ));
        client.read_until(r#"("", ["0"])"#);
        // Longer than a short one, and than MAX_BODY_SIZE of the daemon's own operations.
        let long = "x".repeat(70_000);
        client.send(&format!("{method} / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n11170\r\n{long}\r\n0\r\n\r\n"));
        let response = client.read_until("0\\r\\n\\r\\n\", [])");
        assert_eq!(
            response.matches('x').count(),
            70_000 + "x-request-id".matches('x').count()
        );
    }
    client.send("DELETE / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.read_until(r#"("", [])"#);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    client.read_until(r#"("", ["0"])"#);
}

#[test]
fn daemon_answers_the_expectation_of_a_client() {
    let server = Server::start();
    server.responder(|request| {
        ok(&format!(
            "{} {:?}",
            request.body.len(),
            request.all("expect")
        ))
    });
    let mut client = server.client();
    for length in [5, 100_000] {
        client.send(&format!(
            "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
        ));
        assert_eq!(
            client.read_until("\r\n\r\n"),
            "HTTP/1.1 100 Continue\r\n\r\n"
        );
        client.send(&"x".repeat(length));
        let response = client.read_until(&format!("{length} []"));
        assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    }
}

#[test]
fn trailers_reach_a_client_that_takes_them() {
    let server = Server::start();
    server.responder(|_| "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Digest\r\n\r\n2\r\nok\r\n0\r\nDigest: abc\r\nOther: x\r\n\r\n".into());
    let mut client = server.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n");
    let response = client.read_until("\r\n\r\n2\r\nok\r\n0\r\ndigest: abc\r\n\r\n");
    assert!(response.contains("\r\ntrailer: Digest\r\n"), "{response}");
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let response = client.read_until("\r\n\r\n2\r\nok\r\n0\r\n\r\n");
    assert!(!response.contains("trailer"), "{response}");
}

#[test]
fn responses_get_no_rules_of_the_daemon() {
    let server = Server::start();
    server.responder(|_| {
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 0\r\nDate: x\r\n\r\n".into()
    });
    let response = server.ask("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let mut names: Vec<_> = response
        .lines()
        .skip(1)
        .filter_map(|it| it.split(':').next())
        .collect();
    names.sort_unstable();
    let expected = [
        "",
        "connection",
        "content-length",
        "content-type",
        "date",
        "x-request-id",
    ];
    assert_eq!(names, expected);
}

#[test]
fn methods_for_proxies_are_refused() {
    let server = Server::start();
    server.responder(|_| ok("app"));
    for (request, status) in [
        ("TRACE / HTTP/1.1\r\nHost: a", "405"),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a:1", "405"),
        ("OPTIONS * HTTP/1.1\r\nHost: a", "204"),
        ("GET / HTTP/1.1", "400"),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked",
            "501",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked",
            "400",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3",
            "400",
        ),
        ("OPTIONS / HTTP/1.1\r\nHost: a", "200"),
        ("BREW http://a/pot HTTP/1.1\r\nHost: a", "200"),
    ] {
        let response = server.ask(&format!("{request}\r\nConnection: close\r\n\r\n"));
        assert!(
            response.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request}: {response}"
        );
        assert_eq!(response.contains("allow: "), status == "405", "{response}");
        assert_eq!(response.ends_with("app"), status == "200", "{response}");
    }
}

#[test]
fn only_trusted_proxies_may_name_the_client() {
    let forwarded = |settings: &[(&str, &str)]| {
        let server = Server::with(settings, |_| {});
        server.responder(|request| {
            let name = |name| request.all(name).join("|");
            let names = [
                "x-forwarded-for",
                "x-forwarded-proto",
                "x-forwarded-host",
                "forwarded",
                "x-request-id",
            ];
            ok(&names.map(name).join(" "))
        });
        let response = server.ask("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6, 192.0.2.1, 10.0.0.2\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: b\r\nForwarded: for=x\r\nX-Request-Id: mine\r\nConnection: close\r\n\r\n");
        response.lines().last().unwrap().to_owned()
    };
    let line = forwarded(&[]);
    assert!(
        line.starts_with("127.0.0.1 http a  ") && !line.contains("mine"),
        "{line}"
    );
    assert_eq!(
        forwarded(&[("TRUSTED_PROXIES", "127.0.0.0/8, 10.0.0.0/8")]),
        "192.0.2.1, 10.0.0.2, 127.0.0.1 https b for=x mine"
    );
}

#[test]
fn broken_responses_are_502() {
    let server = Server::start();
    server.responder(|request| match request.target() {
        "/none" => "\r\n".into(),
        "/no-http" => "SSH-2.0\r\n\r\n".into(),
        "/lengths" => "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx".into(),
        "/coding" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n".into(),
        _ => {
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
                .into()
        }
    });
    for path in ["no-http", "lengths", "coding", "101"] {
        let response = server.ask(&format!(
            "POST /{path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        ));
        assert!(
            response.starts_with("HTTP/1.1 502 Bad Gateway\r\n"),
            "{path}: {response}"
        );
        assert!(
            response.contains("content-type: application/problem+json\r\n"),
            "{response}"
        );
        assert!(
            response.contains("the application sent no valid response: "),
            "{response}"
        );
    }
    let errors: Vec<_> = server
        .proxy
        .stats()
        .errors()
        .filter(|(_, count)| *count > 0)
        .collect();
    assert_eq!(errors, [("broken", 4)]);
}

#[test]
fn last_part_of_a_body_is_no_error_response() {
    let server = Server::start();
    let (listener, _) = server.worker();
    let mut client = server.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut worker = Worker::accept(&listener);
    worker.read_request().unwrap();
    worker.send("HTTP/1.1 200 OK\r\nContent-Length: 34\r\n\r\nlog:\n");
    client.read_until("log:\n");
    worker.send("HTTP/1.1 404 Not Found (a line)\r\n".split_at(29).0);
    client.read_until("HTTP/1.1 404 Not Found (a lin");
}

//! Routing, origin checks, request ids and the access log.

use crate::support::{Connection, Home, eventually, request};

#[test]
fn unknown_path_and_wrong_method_are_problems_on_both_ports() {
    let home = Home::started();
    for host in [home.public_address(), home.admin_address()] {
        request(&host, "GET", "/nothing/here", &[], "").assert_problem(404, "/nothing/here");
    }
    let cases = [
        (home.public_address(), "POST", "/health", "GET, HEAD"),
        (
            home.public_address(),
            "DELETE",
            "/health/ready",
            "GET, HEAD",
        ),
        (home.admin_address(), "GET", "/admin/stop", "POST"),
        (home.admin_address(), "PUT", "/admin/logs", "GET, HEAD"),
        (home.public_address(), "POST", "/docs", "GET, HEAD"),
    ];
    for (host, method, path, allow) in cases {
        let answer = request(&host, method, path, &[], "");
        answer.assert_problem(405, path);
        assert_eq!(answer.header("allow"), Some(allow), "{method} {path}");
    }
    let head = request(&home.public_address(), "HEAD", "/health", &[], "");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}

#[test]
fn foreign_host_and_origin_are_refused() {
    let home = Home::started();
    let host = home.admin_address();
    let token = format!("Bearer {}", home.token("admin:read"));
    let ask = |extra: (&str, &str)| {
        request(
            &host,
            "GET",
            "/admin/status",
            &[("Authorization", &token), extra],
            "",
        )
    };
    ask(("Host", "evil.example")).assert_problem(403, "Host");
    ask(("Host", "0.0.0.0:8001")).assert_problem(403, "Host");
    ask(("Origin", "http://evil.example")).assert_problem(403, "origin");
    ask(("Origin", "null")).assert_problem(403, "origin");
    assert_eq!(ask(("Origin", &format!("http://{host}"))).status, 200);
    let answer = ask(("Host", "localhost:9"));
    assert_eq!(
        (answer.status, answer.header("cache-control")),
        (200, Some("no-store"))
    );
}

/// Another program may have `localhost` to itself, on the other of the two loopback addresses.
#[test]
fn pages_of_localhost_are_redirected_to_numeric_address() {
    for (address, numeric) in [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")] {
        let mut home = Home::new();
        home.set("ADMIN_HOST", address);
        home.run(["start"]).succeeds();
        let host = home.admin_address();
        let named = host.replace(numeric, "localhost");
        assert!(named.starts_with("localhost:"), "{named}");
        let bearer = home.bearer();
        let ask = |method: &str, path: &str, headers: &[(&str, &str)]| {
            let all = [headers, &[("Host", &named), ("Authorization", &bearer)]].concat();
            let answer = request(&host, method, path, &all, "");
            let location = answer.header("location").map(str::to_owned);
            (answer.status, location)
        };
        let html = ("Accept", "text/html,application/xhtml+xml,*/*;q=0.8");
        let opened = [
            ("Sec-Fetch-Mode", "navigate"),
            ("Sec-Fetch-Dest", "document"),
        ];
        for method in ["GET", "HEAD"] {
            for headers in [&[html][..], &opened] {
                for path in [
                    "/",
                    "/console?a=b&c",
                    "/admin/docs",
                    "/admin/status",
                    "/nothing",
                ] {
                    let expected = (307, Some(format!("http://{host}{path}")));
                    assert_eq!(ask(method, path, headers), expected, "{method} {path}");
                }
            }
        }
        // Requests of programs and scripts are answered.
        let fetched = [html, ("Sec-Fetch-Mode", "cors")];
        for headers in [&[][..], &[("Accept", "*/*")], &fetched] {
            assert_eq!(ask("GET", "/admin/status", headers), (200, None));
            assert_eq!(ask("GET", "/console", headers), (200, None));
        }
        assert_eq!(ask("POST", "/admin/session", &[html]), (201, None));
    }
}

#[test]
fn error_of_body_names_field_and_no_type_of_rust() {
    let home = Home::started();
    for (method, path, body, detail) in [
        (
            "POST",
            "/admin/restart",
            r#"{"timeout_seconds":"x"}"#,
            "field `timeout_seconds`: must be a number",
        ),
        (
            "POST",
            "/admin/stop",
            r#"{"timeout_seconds":3601}"#,
            "field `timeout_seconds`: must be 0 to 3600 seconds",
        ),
        (
            "PUT",
            "/admin/log-level",
            r#"{"level":7}"#,
            "field `level`: must be a string",
        ),
    ] {
        home.call_admin_with(method, path, body)
            .assert_problem(400, detail);
    }
}

/// Other programs in front of the daemon may take the first of two.
#[test]
fn repeated_field_of_body_is_refused() {
    let home = Home::started();
    for (method, path, body, detail) in [
        (
            "PUT",
            "/admin/log-level",
            r#"{"level":"INFO","level":"DEBUG"}"#,
            "field `level` is repeated",
        ),
        (
            "PUT",
            "/admin/log-level",
            r#"{"level":"INFO","level":"INFO"}"#,
            "field `level` is repeated",
        ),
        (
            "PUT",
            "/admin/log-level",
            r#"{"level":"INFO","\u006cevel":"DEBUG"}"#,
            "field `level` is repeated",
        ),
        (
            "POST",
            "/admin/restart",
            r#"{"timeout_seconds":1,"timeout_seconds":20}"#,
            "field `timeout_seconds` is repeated",
        ),
        (
            "POST",
            "/admin/stop",
            r#"{"timeout_seconds":{"a":[{"b\n":1,"b\n":2}]}}"#,
            "a field is repeated",
        ),
    ] {
        home.call_admin_with(method, path, body)
            .assert_problem(400, detail);
    }
    let level = home.call_admin("GET", "/admin/log-level").json();
    assert_eq!(level["level"], "info", "{level}");
}

#[test]
fn request_id_is_in_response_and_access_log() {
    let home = Home::started();
    let with_valid_id = request(
        &home.public_address(),
        "GET",
        "/",
        &[("X-Request-Id", "order-66")],
        "",
    );
    let own_id = with_valid_id.header("x-request-id").unwrap().to_owned();
    let with_invalid_id = request(
        &home.public_address(),
        "GET",
        "/",
        &[("X-Request-Id", "bad id\tx")],
        "",
    );
    let with_invalid_id = with_invalid_id.header("x-request-id").unwrap().to_owned();
    // A client could choose an id that looks like one of the daemon's.
    let own_ids = [&own_id, &with_invalid_id];
    let prefixes = own_ids.map(|id| id.split_once('-').unwrap().0.to_owned());
    assert_eq!(prefixes[0], prefixes[1]);
    eventually("both requests are logged", || {
        let log = home.log();
        log.contains(&format!(
            "request_id=\"{own_id}\" client_request_id=\"order-66\""
        )) && log.contains(&format!("request_id=\"{with_invalid_id}\""))
    });
    assert_eq!(
        request(&home.public_address(), "GET", "/health", &[], "").status,
        200
    );
    let line = home
        .log()
        .lines()
        .find(|line| line.contains("order-66"))
        .unwrap()
        .to_owned();
    for part in [
        " INFO access: ",
        "method=GET",
        "path=\"/\"",
        "status=200",
        "duration_us=",
        "peer=127.0.0.1:",
    ] {
        assert!(line.contains(part), "no {part} in {line}");
    }
    home.run(["stop"]).succeeds();
    assert!(
        !home.log().contains("/health"),
        "health probe logged above DEBUG"
    );
}

#[test]
fn half_closed_client_is_answered_and_aborted_one_is_logged() {
    let home = Home::started();
    for _ in 0..20 {
        let mut connection = Connection::open(&home.public_address());
        connection.send("GET", "/health/live", &[], "");
        connection.shutdown_write();
        assert_eq!(connection.read_response("GET").status, 200);
        assert_eq!(connection.read_to_end(), "");
    }
    let token = format!("Bearer {}", home.token("admin:control"));
    let mut connection = Connection::open(&home.admin_address());
    let head = format!(
        "POST /admin/stop HTTP/1.1\r\nHost: localhost\r\nAuthorization: {token}\r\nContent-Length: 10\r\n\r\n"
    );
    connection.send_bytes(head.as_bytes());
    eventually("the request is in flight", || {
        home.call_admin("GET", "/admin/status").json()["http"]["in_flight"] == 2
    });
    drop(connection);
    eventually("the line is logged", || {
        home.log().contains("path=\"/admin/stop\" status=4")
    });
    eventually("only our own connection is left", || {
        home.call_admin("GET", "/admin/status").json()["http"]["connections"] == 1
    });
}

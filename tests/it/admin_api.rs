//! Responses and errors of the admin API on the wire.

use crate::support::{Connection, Home, eventually, request};

#[test]
fn status_has_every_documented_field() {
    let home = Home::started();
    let status = home.call_admin("GET", "/admin/status").json();
    let names = [
        "service",
        "version",
        "phase",
        "pid",
        "instance",
        "generation",
        "started_at",
        "uptime_seconds",
        "server",
        "docs",
        "health",
        "admin",
        "pid_file",
        "log_file",
        "log_level",
        "process",
        "http",
        "checks",
    ];
    for name in names {
        assert!(!status[name].is_null(), "{name}");
    }
    let state = home.state();
    assert_eq!(
        (&status["phase"], &status["pid"]),
        (&"ready".into(), &state.pid.into())
    );
    assert_eq!(status["instance"], state.instance);
    for name in ["rss_bytes", "open_files", "threads"] {
        assert!(status["process"][name].as_u64().unwrap() > 0, "{name}");
    }
    assert_eq!(status["http"]["in_flight"], 1);
    assert_eq!(status["checks"][0]["name"], "log");
}

#[test]
fn config_masks_secrets_and_shows_sources() {
    let mut home = Home::new();
    home.set("DB_PASSWORD", "hunter2hunter2");
    std::fs::write(home.path().join(".env"), "LOG_KEEP=3\n").unwrap();
    home.run(["start", "--shutdown-timeout", "3s"]).succeeds();
    let answer = home.call_admin("GET", "/admin/config");
    assert!(!answer.body.contains("hunter2"));
    let settings = answer.json();
    let find = |name: &str| {
        let entry = settings
            .as_array()
            .unwrap()
            .iter()
            .find(|entry| entry["name"] == name)
            .unwrap();
        (
            entry["value"].as_str().map(str::to_owned),
            entry["source"].as_str().unwrap().to_owned(),
        )
    };
    assert_eq!(
        find("DB_PASSWORD"),
        (Some("******".into()), "environment".into())
    );
    assert_eq!(find("SHUTDOWN_TIMEOUT"), (Some("3s".into()), "flag".into()));
    assert_eq!(
        find("LOG_KEEP"),
        (
            Some("3".into()),
            home.path().join(".env").display().to_string()
        )
    );
    assert_eq!(find("LOG_FORMAT"), (Some("text".into()), "default".into()));
    assert_eq!(find("REDIS_HOST").0, None);
}

#[test]
fn logs_are_paged_plain_text_and_filtered() {
    let home = Home::started();
    for _ in 0..5 {
        home.call_admin("GET", "/admin/status");
    }
    let page = home.call_admin("GET", "/admin/logs?lines=3").json();
    let entries = page["entries"].as_array().unwrap();
    assert_eq!(entries.len(), 3);
    assert_eq!(
        (&entries[0]["level"], &entries[0]["target"]),
        (&"INFO".into(), &"access".into())
    );
    assert_eq!(page["first_cursor"], entries[0]["cursor"]);
    assert_eq!(page["next_cursor"], entries[2]["cursor"]);

    let before = home
        .call_admin(
            "GET",
            &format!(
                "/admin/logs?lines=100&before={}",
                page["first_cursor"].as_str().unwrap()
            ),
        )
        .json();
    let older = before["entries"].as_array().unwrap();
    assert!(older[0]["message"].as_str().unwrap().starts_with("ready "));
    assert!(older.iter().all(|entry| !entries.contains(entry)));

    assert_eq!(
        home.call_admin("GET", "/admin/logs?contains=ready").json()["entries"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        home.call_admin("GET", "/admin/logs?level=error").json()["entries"]
            .as_array()
            .unwrap()
            .len(),
        0
    );
    assert_eq!(
        home.call_admin("GET", "/admin/logs?since=2100-01-01T00:00:00Z")
            .json()["entries"]
            .as_array()
            .unwrap()
            .len(),
        0
    );
    assert!(
        home.call_admin("GET", "/admin/logs?since=1h").json()["entries"]
            .as_array()
            .unwrap()
            .len()
            > 5
    );

    let token = home.token("admin:logs");
    let headers = [
        ("Authorization", &*format!("Bearer {token}")),
        ("Accept", "text/plain"),
    ];
    let text = request(
        &home.admin_address(),
        "GET",
        "/admin/logs?lines=2",
        &headers,
        "",
    );
    assert_eq!(
        text.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    assert_eq!(text.body.lines().count(), 2);
    assert!(home.log().contains(&text.body));
}

#[test]
fn invalid_parameter_is_named() {
    let home = Home::started();
    let cases = [
        ("/admin/logs?lines=0", "lines"),
        ("/admin/logs?lines=10001", "lines"),
        ("/admin/logs?lines=many", "lines"),
        ("/admin/logs?level=loud", "level"),
        ("/admin/logs?level=3", "level"),
        ("/admin/logs?since=yesterday", "since"),
        ("/admin/logs?since=0", "since"),
        ("/admin/logs?before=nonsense", "before"),
        ("/admin/logs/stream?after=nonsense", "after"),
        ("/admin/logs/stream?lines=-1", "lines"),
        ("/admin/logs?line=5", "line"),
        ("/admin/logs?lines=5&lines=6", "lines"),
        ("/admin/logs/stream?before=1-2-3-4", "before"),
        ("/admin/status?verbose", "verbose"),
    ];
    for (path, name) in cases {
        home.call_admin("GET", path)
            .assert_problem(400, &format!("`{name}`"));
    }
    for (path, detail) in [
        ("/admin/logs?lines=0", "`lines` is less than 1"),
        (
            "/admin/logs?lines=10000001",
            "`lines` is more than 10000000",
        ),
        ("/admin/logs?lines=many", "`lines` is not a whole number"),
    ] {
        home.call_admin("GET", path).assert_problem(400, detail);
    }
    home.call_admin("GET", "/admin/logs?before=1-2-3-4")
        .assert_problem(404, "no longer");
    // An unauthenticated client does not learn which parameters exist.
    request(&home.admin_address(), "GET", "/admin/logs?line=5", &[], "")
        .assert_problem(401, "Bearer");
    // This is further back than any clock can represent.
    let all = home.call_admin("GET", "/admin/logs?since=99999w%2099999w");
    assert!(!all.json()["entries"].as_array().unwrap().is_empty());
}

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
    assert_eq!(with_valid_id.header("x-request-id"), Some("order-66"));
    let with_invalid_id = request(
        &home.public_address(),
        "GET",
        "/",
        &[("X-Request-Id", "bad id\tx")],
        "",
    );
    let with_invalid_id = with_invalid_id.header("x-request-id").unwrap().to_owned();
    assert!(!with_invalid_id.contains(' '));
    eventually("both requests are logged", || {
        let log = home.log();
        log.contains("request_id=\"order-66\"")
            && log.contains(&format!("request_id=\"{with_invalid_id}\""))
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
fn stop_responds_before_shutdown_and_is_audited() {
    let home = Home::started();
    let daemon = home.daemon().unwrap();
    let token = home
        .run(["token", "--subject", "the operator"])
        .succeeds()
        .stdout;
    let authorization = format!("Bearer {}", token.trim());
    let mut connection = Connection::open(&home.admin_address());
    let headers = [("Authorization", authorization.as_str())];
    connection.send(
        "POST",
        "/admin/stop",
        &headers,
        r#"{"timeout_seconds":"soon"}"#,
    );
    connection
        .read_response("POST")
        .assert_problem(400, "timeout_seconds");
    connection.send("POST", "/admin/stop", &headers, r#"{"timeout_seconds":-1}"#);
    connection
        .read_response("POST")
        .assert_problem(400, "timeout_seconds");
    connection.send("POST", "/admin/stop", &headers, r#"{"timeout_seconds":5}"#);
    let answer = connection.read_response("POST");
    assert_eq!(answer.status, 202, "{answer:#?}");
    let accepted = answer.json();
    assert_eq!(
        (&accepted["phase"], &accepted["in_flight"]),
        (&"draining".into(), &0.into())
    );
    assert!(accepted["deadline"].as_str().unwrap().ends_with('Z'));
    assert!(daemon.wait_for_exit(crate::support::DEADLINE));
    assert!(!home.pid_file().exists());
    let log = home.log();
    let audit: Vec<_> = log
        .lines()
        .filter(|line| line.contains(" audit: action=\"stop\""))
        .collect();
    let [refused, _, audit] = audit[..] else {
        panic!("expected three events: {audit:#?}");
    };
    assert!(
        refused.contains("outcome=\"refused\"") && refused.contains("timeout_seconds"),
        "{refused}"
    );
    for part in [
        "outcome=\"accepted\"",
        "subject=\"the operator\"",
        "token_id=\"",
        "peer=127.0.0.1:",
    ] {
        assert!(audit.contains(part), "no {part} in {audit}");
    }
    assert!(!log.contains(token.trim()));
}

#[test]
fn refused_request_is_audited() {
    let home = Home::started();
    let token = format!("Bearer {}", home.token("admin:read"));
    request(
        &home.admin_address(),
        "POST",
        "/admin/stop",
        &[("Authorization", &token)],
        "",
    )
    .assert_problem(403, "admin:control");
    request(&home.admin_address(), "POST", "/admin/stop", &[], "")
        .assert_problem(401, "fullon token");
    eventually("both refusals are audited", || {
        home.log()
            .matches(" audit: action=\"stop\" outcome=\"refused\"")
            .count()
            == 2
    });
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

#[test]
fn fifo_in_place_of_log_does_not_block_daemon() {
    let home = Home::started();
    let fifo = home.log_file();
    std::fs::remove_file(&fifo).unwrap();
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for path in ["/admin/logs", "/admin/logs/stream", "/admin/logs"] {
        home.call_admin("GET", path)
            .assert_problem(503, "not a regular file");
    }
    home.run(["logs", "--no-follow"])
        .exits(1)
        .stderr_contains(&["not a regular file"]);
    home.run(["stop"])
        .succeeds()
        .stdout_contains(&["Daemon stopped\n"]);
}

#[test]
fn unread_history_of_long_lines_uses_no_memory() {
    let home = Home::started();
    let lines = format!("{}\n", "x".repeat(799)).repeat(12_000);
    let mut log = std::fs::OpenOptions::new()
        .append(true)
        .open(home.log_file())
        .unwrap();
    std::io::Write::write_all(&mut log, lines.as_bytes()).unwrap();
    let token = format!("Bearer {}", home.token("admin:logs"));
    let resident = || {
        home.call_admin("GET", "/admin/status").json()["process"]["rss_bytes"]
            .as_u64()
            .unwrap()
    };
    let before = resident();
    let followers: Vec<_> = (0..20)
        .map(|_| {
            let mut connection = Connection::open(&home.admin_address());
            connection.send(
                "GET",
                "/admin/logs/stream?lines=10000",
                &[("Authorization", &token)],
                "",
            );
            assert_eq!(connection.read_head().status, 200);
            connection
        })
        .collect();
    eventually("all followers are connected", || {
        home.call_admin("GET", "/admin/status").json()["http"]["connections"] == 21
    });
    let each = resident().saturating_sub(before) / 20;
    assert!(each < 2 * 1024 * 1024, "{each} bytes per follower");
    drop(followers);
}

#[test]
fn unread_pages_use_no_memory_and_block_no_reader() {
    const CLIENTS: u64 = 40;
    let home = Home::started();
    let line = format!("2026-01-31T12:00:00Z INFO test: {}\n", "x".repeat(767));
    let mut log = std::fs::OpenOptions::new()
        .append(true)
        .open(home.log_file())
        .unwrap();
    std::io::Write::write_all(&mut log, line.repeat(12_000).as_bytes()).unwrap();
    let token = format!("Bearer {}", home.token("admin:logs"));
    let headers = [("Authorization", token.as_str())];
    let resident = || {
        home.call_admin("GET", "/admin/status").json()["process"]["rss_bytes"]
            .as_u64()
            .unwrap()
    };
    let before = resident();
    // More than the socket buffers hold for a client that does not read.
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut connection = Connection::with_small_buffer(&home.admin_address());
            connection.send("GET", "/admin/logs?lines=10000", &headers, "");
            assert_eq!(connection.read_head().status, 200);
            connection
        })
        .collect();
    // This reader waits less than IDLE_TIMEOUT for the clients that do not read.
    let page = request(
        &home.admin_address(),
        "GET",
        "/admin/logs?lines=10000",
        &headers,
        "",
    );
    // A page is limited to 4 MiB of lines.
    let page = page.json();
    let entries = page["entries"].as_array().unwrap();
    let lengths = entries
        .iter()
        .map(|entry| entry["line"].as_str().unwrap().len());
    let whole: usize = lengths.sum();
    let page_limit = 4 * 1024 * 1024;
    assert!(
        (page_limit..page_limit + line.len()).contains(&whole),
        "{whole}"
    );
    assert_eq!(page["first_cursor"], entries[0]["cursor"]);
    let each = resident().saturating_sub(before) / CLIENTS;
    assert!(each < 1024 * 1024, "{each} bytes per client");
    drop(clients);
}

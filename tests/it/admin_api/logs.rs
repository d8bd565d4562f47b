//! Reading the log over the API.

use crate::support::{Connection, Home, eventually, request};

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
    assert_eq!(text.header("vary"), Some("Accept"));
}

#[test]
fn format_follows_the_weights_in_accept() {
    let home = Home::started();
    let bearer = format!("Bearer {}", home.token("admin:logs"));
    let cases: [(&[&str], &str); 5] = [
        (
            &["text/plain;q=0.1, application/json;q=0.9"],
            "application/json",
        ),
        (
            &["application/json;q=0.1", "TEXT/plain"],
            "text/plain; charset=utf-8",
        ),
        (&["application/json;q=0, */*"], "text/plain; charset=utf-8"),
        (&["text/plain;q=0"], "application/json"),
        (&["image/png"], "application/json"),
    ];
    for (accept, expected) in cases {
        for query in ["?lines=1", "?lines=1&contains=ready"] {
            let mut headers = vec![("Authorization", bearer.as_str())];
            headers.extend(accept.iter().map(|line| ("Accept", *line)));
            let path = format!("/admin/logs{query}");
            let page = request(&home.admin_address(), "GET", &path, &headers, "");
            let content_type = page.header("content-type").unwrap();
            assert!(
                content_type.starts_with(expected),
                "{accept:?}: {content_type}"
            );
            assert_eq!(page.header("vary"), Some("Accept"));
        }
    }
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
        ("/admin/logs?lines=0", "from 1 to 10,000, or"),
        ("/admin/logs?lines=10000001", "from 1 to 10,000, or"),
        ("/admin/logs?lines=10001", "`lines` is more than 10,000"),
        (
            "/admin/logs?lines=many",
            "parameter `lines` is not a whole number from 1 to 10,000, or to 10,000,000 with `Accept: text/plain`",
        ),
        (
            "/admin/logs/stream?lines=-1",
            "parameter `lines` is not a whole number from 0 to 10,000",
        ),
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

/// A damaged file hides only the lines behind the damage.
#[test]
fn unreadable_archive_does_not_hide_other_files() {
    let home = Home::started();
    let archive = |number: u32, suffix: &str| {
        let mut name = home.log_file().into_os_string();
        name.push(format!(".{number}{suffix}"));
        std::path::PathBuf::from(name)
    };
    std::fs::write(archive(1, ""), "needle of the first file\n").unwrap();
    // Garbage, and a header with a window that no decoder supports.
    std::fs::write(archive(2, ".gz"), b"\x1f\x8b\x08 no more than that").unwrap();
    std::fs::write(archive(3, ".zst"), b"\x28\xb5\x2f\xfd\x00\x88").unwrap();
    std::fs::write(archive(4, ""), "needle of the oldest file\n").unwrap();
    let path = "/admin/logs?contains=needle%20of";
    let response = home.call_admin("GET", path);
    assert_eq!(response.status, 200, "{}", response.body);
    let page = response.json();
    let entries = page["entries"].as_array().unwrap();
    let lines: Vec<_> = entries
        .iter()
        .map(|it| it["line"].as_str().unwrap())
        .collect();
    assert_eq!(
        lines,
        ["needle of the oldest file", "needle of the first file"]
    );
    let incomplete = page["incomplete_files"].as_array().unwrap();
    assert_eq!(incomplete.len(), 2, "{page}");
    for (found, (file, reason)) in incomplete.iter().zip([
        (archive(2, ".gz"), "is damaged"),
        (archive(3, ".zst"), "is not read"),
    ]) {
        assert_eq!(found["file"], file.display().to_string());
        assert!(
            found["reason"].as_str().unwrap().contains(reason),
            "{found}"
        );
        eventually("the daemon warns", || {
            let shown = format!("{}: the file {reason}", file.display());
            home.log().contains(&shown)
        });
    }
    let text = request(
        &home.admin_address(),
        "GET",
        path,
        &[("Authorization", &home.bearer()), ("Accept", "text/plain")],
        "",
    );
    assert_eq!(text.status, 200, "{}", text.body);
    assert!(
        text.header("X-Incomplete-File")
            .unwrap()
            .contains("fullon.log.")
    );
    assert_eq!(text.body.matches("needle of the").count(), 2);
    let printed = home
        .run(["logs", "--no-follow", "--contains", "needle of"])
        .succeeds();
    assert_eq!(
        printed.stdout.matches("needle of the").count(),
        2,
        "{printed:#?}"
    );
    printed.stderr_contains(&[".2.gz: the file is damaged", ".3.zst: the file is not read"]);
    // Nothing is missing in a page that ends before them.
    let page = home.call_admin("GET", &format!("{path}&lines=1")).json();
    assert_eq!(page["incomplete_files"], serde_json::json!([]));
}

//! `TRUSTED_PROXIES`: the client of a request that came through a proxy.

use crate::proxies::public_port;
use crate::support::{Connection, Home, ProxyProgram, eventually, request};

/// The log lines that contain a text, once there are some.
fn log_lines(home: &Home, text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    eventually("the line is logged", || {
        let log = home.log();
        let found = log.lines().filter(|line| line.contains(text));
        lines = found.map(str::to_owned).collect();
        !lines.is_empty()
    });
    lines
}

/// The value of a field in the text format.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(&format!(" {name}="))?;
    rest.split(' ').next().map(|value| value.trim_matches('"'))
}

/// The `client` that is logged for a request with these header lines.
fn logged_client(home: &Home, path: &str, headers: &[(&str, &str)]) -> Option<String> {
    request(&home.public_address(), "GET", path, headers, "");
    let lines = log_lines(home, &format!("path=\"{path}\""));
    assert_eq!(
        field(&lines[0], "peer").map(|peer| peer.starts_with("127.0.0.1:")),
        Some(true)
    );
    field(&lines[0], "client").map(str::to_owned)
}

fn started_with(trusted: &str) -> Home {
    let mut home = Home::new();
    home.set("TRUSTED_PROXIES", trusted);
    home.run(["start"]).succeeds();
    home
}

#[test]
fn trusted_proxy_names_the_client() {
    let home = started_with("127.0.0.1, 10.0.0.0/8");
    for (number, (headers, expected)) in [
        (&[("X-Forwarded-For", "192.0.2.1")][..], Some("192.0.2.1")),
        (
            &[("x-forwarded-for", "9.9.9.9, 192.0.2.1:4711, 10.1.1.1")],
            Some("192.0.2.1"),
        ),
        (
            &[
                ("X-Forwarded-For", "9.9.9.9"),
                ("X-Forwarded-For", "[2001:db8::1]:80"),
            ],
            Some("2001:db8::1"),
        ),
        (
            &[("X-Forwarded-For", "192.0.2.1, , ::ffff:10.1.1.1,")],
            Some("192.0.2.1"),
        ),
        (
            &[(
                "Forwarded",
                "for=9.9.9.9, for=\"[2001:db8::1]:80\";proto=https",
            )],
            Some("2001:db8::1"),
        ),
        (
            &[
                ("Forwarded", "for=9.9.9.9"),
                ("X-Forwarded-For", "192.0.2.1"),
            ],
            Some("192.0.2.1"),
        ),
        (&[("X-Forwarded-For", "unknown")], None),
        (&[("X-Forwarded-For", "9.9.9.9 client=8.8.8.8")], None),
        (&[], None),
    ]
    .into_iter()
    .enumerate()
    {
        let client = logged_client(&home, &format!("/{number}"), headers);
        assert_eq!(client.as_deref(), expected, "{headers:?}");
    }
}

#[test]
fn client_that_is_no_trusted_proxy_can_forge_nothing() {
    let home = started_with("127.0.0.2, 192.0.2.0/24");
    let headers = [
        ("X-Forwarded-For", "127.0.0.2, 192.0.2.1"),
        ("Forwarded", "for=192.0.2.1"),
        ("X-Real-IP", "192.0.2.1"),
        ("X-Request-Id", "forged"),
    ];
    assert_eq!(logged_client(&home, "/forged", &headers), None);
    let line = &log_lines(&home, "path=\"/forged\"")[0];
    assert_eq!(field(line, "client_request_id"), Some("forged"));
    assert_ne!(field(line, "request_id"), Some("forged"));
    // Without the setting, nobody is trusted.
    let home = Home::started();
    assert_eq!(logged_client(&home, "/forged", &headers), None);
}

#[test]
fn request_id_of_a_trusted_proxy_is_adopted() {
    let home = started_with("127.0.0.1");
    let send = |path: &str, id: &str| {
        let answer = request(
            &home.public_address(),
            "GET",
            path,
            &[("X-Request-Id", id)],
            "",
        );
        let line = log_lines(&home, &format!("path=\"{path}\"")).remove(0);
        assert_eq!(answer.header("x-request-id"), field(&line, "request_id"));
        assert_eq!(field(&line, "client_request_id"), None);
        field(&line, "request_id").unwrap().to_owned()
    };
    assert_eq!(send("/valid", "of-the-proxy"), "of-the-proxy");
    let generated = send("/invalid", "a b\"c");
    assert_eq!(generated.len(), "ce0e870b-00000001".len(), "{generated}");
}

#[test]
fn reload_changes_the_trusted_proxies() {
    let home = Home::started();
    let headers = [("X-Forwarded-For", "192.0.2.1")];
    assert_eq!(logged_client(&home, "/before", &headers), None);
    home.write_env("TRUSTED_PROXIES=127.0.0.0/8\n");
    home.run(["reload"])
        .succeeds()
        .stdout_contains(&["TRUSTED_PROXIES"]);
    let client = logged_client(&home, "/after", &headers);
    assert_eq!(client.as_deref(), Some("192.0.2.1"));
    home.write_env("TRUSTED_PROXIES=proxy.example\n");
    home.run(["reload"]).exits(2).stderr_contains(&[
        "TRUSTED_PROXIES: `proxy.example` is not an IP address or a network, such as 192.0.2.1 or 10.0.0.0/8",
    ]);
}

#[test]
fn audit_trail_and_token_limit_have_the_client() {
    let mut home = Home::new();
    home.set("TRUSTED_PROXIES", "127.0.0.1");
    home.set("FAILED_TOKENS_PER_MINUTE", "2");
    home.run(["start"]).succeeds();
    let admin = home.admin_address();
    let fail = |client: &str| {
        let headers = [
            ("Authorization", "Bearer nonsense"),
            ("X-Forwarded-For", client),
        ];
        request(&admin, "GET", "/admin/status", &headers, "").status
    };
    assert_eq!([(); 3].map(|()| fail("192.0.2.1")), [401, 401, 429]);
    assert_eq!(fail("192.0.2.2"), 401);
    // It cannot choose another address for each attempt.
    assert_eq!(fail("9.9.9.9, 192.0.2.1"), 429);

    let bearer = home.bearer();
    let headers = [
        ("Authorization", &*bearer),
        ("X-Forwarded-For", "192.0.2.7"),
        ("X-Request-Id", "of-the-proxy"),
    ];
    assert_eq!(
        request(&admin, "POST", "/admin/reload", &headers, "").status,
        200
    );
    let line = &log_lines(&home, "audit: action=\"reload\"")[0];
    assert_eq!(field(line, "client"), Some("192.0.2.7"));
    let records = home.run(["audit", "--json"]).succeeds();
    let records = records
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let records: Vec<serde_json::Value> = records.collect();
    let record = records.iter().find(|record| record["event"] == "reload");
    let record = record.unwrap_or_else(|| panic!("{records:#?}"));
    assert_eq!(record["client"], "192.0.2.7");
    assert_eq!(record["request_id"], "of-the-proxy");
    assert!(record["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
    home.run(["audit"])
        .succeeds()
        .stdout_contains(&[" client=192.0.2.7 "]);
    home.run(["audit", "--verify"]).succeeds();
}

#[test]
fn client_behind_a_real_proxy_is_logged() {
    for program in ProxyProgram::ALL {
        let home = started_with("127.0.0.1");
        let test = "client_behind_a_real_proxy_is_logged";
        let Some(proxy) = program.start(test, &home, |port| public_port(program, &home, port))
        else {
            continue;
        };
        // A client that tries to be somebody else, at another address than the proxy.
        let mut client = Connection::open_from("127.0.0.2", &proxy.address());
        let headers = [
            ("X-Forwarded-For", "9.9.9.9"),
            ("Forwarded", "for=9.9.9.9"),
            ("X-Request-Id", "forged"),
        ];
        client.send("GET", "/through-the-proxy", &headers, "");
        assert_eq!(client.read_response("GET").status, 404, "{program:?}");
        let line = &log_lines(&home, "path=\"/through-the-proxy\"")[0];
        assert_eq!(
            field(line, "client"),
            Some("127.0.0.2"),
            "{program:?}: {line}"
        );
        assert_ne!(
            field(line, "request_id"),
            Some("forged"),
            "{program:?}: {line}"
        );
        assert_eq!(
            field(line, "client_request_id"),
            None,
            "{program:?}: {line}"
        );
    }
}

//! Responses with gzip: which, for whom, and that they are the same content.

use std::fs;
use std::io::{Read as _, Write as _};

use flate2::read::GzDecoder;

use crate::support::{Connection, Home, Response, eventually, request};

/// Sends a GET request and returns the response with its body as it was
/// sent.
fn get(address: &str, path: &str, headers: &[(&str, &str)]) -> (Response, Vec<u8>) {
    let mut connection = Connection::open(address);
    connection.send("GET", path, headers, "");
    let head = connection.read_head();
    let body = match head.header("content-length") {
        Some(length) => connection.read_bytes(length.parse().unwrap()),
        None if head.header("transfer-encoding").is_some() => connection.read_chunks(),
        None => Vec::new(),
    };
    (head, body)
}

fn is_gzip(head: &Response) -> bool {
    let coding = head.header("content-encoding");
    assert!(matches!(coding, None | Some("gzip")), "{head:#?}");
    coding.is_some()
}

/// Whether a cache keeps the two forms apart.
fn varies(head: &Response) -> bool {
    let mut headers = head.headers.iter();
    headers.any(|(name, value)| {
        name.eq_ignore_ascii_case("vary") && value.to_ascii_lowercase().contains("accept-encoding")
    })
}

#[track_caller]
fn decompress(body: &[u8]) -> String {
    let mut text = String::new();
    GzDecoder::new(body).read_to_string(&mut text).unwrap();
    text
}

#[test]
fn pages_and_documents_are_compressed_for_clients_that_prefer_it() {
    let home = Home::started();
    let (public, admin) = (home.public_address(), home.admin_address());
    for (address, path) in [
        (&public, "/docs"),
        (&public, "/docs/swagger-ui.js"),
        (&public, "/docs/swagger-ui.css"),
        (&public, "/openapi.json"),
        (&admin, "/admin/docs"),
        (&admin, "/admin/openapi.json"),
        (&admin, "/console"),
        (&admin, "/console/main.js"),
        (&admin, "/console/console.css"),
    ] {
        let (plain, content) = get(address, path, &[]);
        assert!(!is_gzip(&plain) && varies(&plain), "{path}");
        let (gzip, compressed) = get(address, path, &[("Accept-Encoding", "br, gzip")]);
        assert!(is_gzip(&gzip) && varies(&gzip), "{path}");
        assert!(compressed.len() < content.len(), "{path}");
        assert_eq!(decompress(&compressed).as_bytes(), content, "{path}");
        assert_eq!(gzip.header("content-type"), plain.header("content-type"));
        for refusal in ["gzip;q=0", "identity, gzip;q=0.5", "br", "*;q=0"] {
            let (head, body) = get(address, path, &[("Accept-Encoding", refusal)]);
            assert!(!is_gzip(&head) && body == content, "{path}");
        }

        // The two have different tags, and either is known.
        let [of_plain, of_gzip] = [&plain, &gzip].map(|head| head.header("etag").unwrap());
        assert_ne!(of_plain, of_gzip);
        let accepts = ("Accept-Encoding", "gzip");
        let revalidate = |tag: &str, accepts: &[(&str, &str)]| {
            let mut headers = accepts.to_vec();
            headers.push(("If-None-Match", tag));
            let (head, body) = get(address, path, &headers);
            assert!(varies(&head), "{path}");
            assert_eq!(head.status == 304, body.is_empty(), "{path}");
            (head.status, head.header("etag").unwrap().to_owned())
        };
        let known = |tag: &str| (304, tag.to_owned());
        assert_eq!(revalidate(of_gzip, &[accepts]), known(of_gzip));
        assert_eq!(revalidate(of_plain, &[]), known(of_plain));
        let both = format!("\"x\", W/{of_plain}, W/{of_gzip}");
        assert_eq!(revalidate(&both, &[accepts]), known(of_gzip));
        assert_eq!(revalidate(&both, &[]), known(of_plain));
        assert_eq!(revalidate("*", &[accepts]), known(of_gzip));
        // A client that prefers gzip also reads the plain content that it has. A cache may ask for
        // a client that cannot read the gzip that it has.
        assert_eq!(revalidate(of_plain, &[accepts]), known(of_plain));
        assert_eq!(revalidate(of_gzip, &[]), (200, of_plain.to_owned()));

        for headers in [&[][..], &[accepts]] {
            let head = request(address, "HEAD", path, headers, "");
            let (of_get, _) = get(address, path, headers);
            for name in ["content-encoding", "content-length", "etag"] {
                assert_eq!(head.header(name), of_get.header(name), "{path}: {name}");
            }
        }
    }
    let (_, script) = get(
        &public,
        "/docs/swagger-ui.js",
        &[("Accept-Encoding", "gzip")],
    );
    assert!(script.len() < 450_000, "{}", script.len());
}

#[test]
fn status_metrics_log_and_audit_are_compressed() {
    let home = Home::started();
    let bearer = format!(
        "Bearer {}",
        home.token("admin:read,admin:logs,admin:control")
    );
    let admin = home.admin_address();
    let ask = |path: &str, headers: &[(&str, &str)]| {
        let mut all = vec![("Authorization", bearer.as_str())];
        all.extend(headers);
        get(&admin, path, &all)
    };
    for _ in 0..20 {
        home.run(["reload"]).succeeds();
    }
    for (path, accept, part) in [
        ("/admin/metrics", "*/*", "fullon_build_info{version="),
        ("/admin/status", "*/*", "\"uptime_seconds\""),
        ("/admin/audit", "*/*", "\"reload\""),
        // Read at once, and as the client reads it.
        ("/admin/logs?lines=50", "*/*", "\"entries\""),
        ("/admin/logs?lines=50", "text/plain", "reload"),
        ("/admin/logs?contains=e", "*/*", "\"entries\""),
        ("/admin/logs?contains=e", "text/plain", "reload"),
    ] {
        let accept = ("Accept", accept);
        let (plain, content) = ask(path, &[accept]);
        assert!(!is_gzip(&plain) && varies(&plain), "{path}");
        assert!(content.len() > 1024, "{path}");
        let (gzip, compressed) = ask(path, &[accept, ("Accept-Encoding", "gzip")]);
        assert!(is_gzip(&gzip) && varies(&gzip), "{path}");
        assert_eq!(gzip.header("content-type"), plain.header("content-type"));
        assert!(compressed.len() < content.len() / 2, "{path}");
        let text = decompress(&compressed);
        assert!(text.contains(part), "{path}: {text}");
        let (identity, _) = ask(path, &[accept, ("Accept-Encoding", "gzip;q=0, *")]);
        assert!(!is_gzip(&identity) && varies(&identity), "{path}");
    }

    // Short responses, errors, the stream, and what has secrets.
    let not_compressed = [
        "/admin/logs?lines=1",
        "/admin/logs?lines=nonsense",
        "/admin/config",
        "/admin/log-level",
        "/admin/sessions",
    ];
    for path in not_compressed {
        let (head, _) = ask(path, &[("Accept-Encoding", "gzip")]);
        assert!(!is_gzip(&head), "{path}");
    }
    for path in ["/admin/session", "/admin/session/token"] {
        let headers = [("Authorization", &*bearer), ("Accept-Encoding", "gzip")];
        let head = request(&admin, "POST", path, &headers, "");
        assert!(!is_gzip(&head), "{path}");
    }
    let mut stream = Connection::open(&admin);
    let headers = [("Authorization", &*bearer), ("Accept-Encoding", "gzip")];
    stream.send("GET", "/admin/logs/stream?lines=100", &headers, "");
    assert!(!is_gzip(&stream.read_head()));
}

/// A home with this many long lines in its log.
fn home_with_long_log(lines: usize) -> Home {
    let mut home = Home::new();
    home.set("ADMIN_MAX_CONNECTIONS", "8");
    home.run(["start"]).succeeds();
    let mut log = fs::OpenOptions::new()
        .append(true)
        .open(home.log_file())
        .unwrap();
    // Digits that do not repeat, so that the compressed page is long, too.
    let mut random = 1_u128;
    let mut text = Vec::new();
    for number in 0..lines {
        write!(text, "line {number} ").unwrap();
        for _ in 0..8 {
            random = random.wrapping_mul(0xda94_2042_e4dd_58b5).rotate_left(37) + 1;
            write!(text, "{random:x}").unwrap();
        }
        text.push(b'\n');
    }
    log.write_all(&text).unwrap();
    home
}

#[test]
fn long_page_is_compressed_as_the_client_reads_it() {
    let home = home_with_long_log(20_000);
    let bearer = format!("Bearer {}", home.token("admin:logs"));
    let admin = home.admin_address();
    for (accept, lines) in [("text/plain", 1_000_000), ("application/json", 10_000)] {
        let ask = |coding: &str| {
            let headers = [
                ("Authorization", &*bearer),
                ("Accept", accept),
                ("Accept-Encoding", coding),
            ];
            get(
                &admin,
                &format!("/admin/logs?lines={lines}&contains=line"),
                &headers,
            )
        };
        let (head, content) = ask("identity");
        assert!(!is_gzip(&head));
        let (head, compressed) = ask("gzip");
        assert!(is_gzip(&head));
        assert_eq!(head.header("transfer-encoding"), Some("chunked"));
        assert!(compressed.len() < content.len() * 3 / 4);
        assert!(decompress(&compressed).as_bytes() == content);
    }
}

#[test]
fn compressed_page_ends_when_the_client_leaves() {
    let home = home_with_long_log(40_000);
    let bearer = format!("Bearer {}", home.token("admin:logs"));
    let headers = [
        ("Authorization", &*bearer),
        ("Accept", "text/plain"),
        ("Accept-Encoding", "gzip"),
    ];
    let path = "/admin/logs?lines=1000000&contains=line";
    // Three quarters of the connections may read the log.
    for _ in 0..20 {
        eventually("a reader has left", || {
            let mut connection = Connection::with_small_buffer(&home.admin_address());
            connection.send("GET", path, &headers, "");
            let head = connection.read_head();
            assert!(matches!(head.status, 200 | 503), "{head:#?}");
            assert_eq!(is_gzip(&head), head.status == 200);
            head.status == 200
        });
    }
}

//! Malformed and oversized requests.

use super::metric;
use crate::support::{Connection, Home};

#[test]
fn refusal_reaches_client_that_sends_body_first() {
    let home = Home::started();
    for _ in 0..20 {
        let mut connection = Connection::open(&home.admin_address());
        let body = " ".repeat(500 * 1024);
        let head = "POST /admin/stop HTTP/1.1\r\nHost: localhost\r\nContent-Length: 512000\r\n\r\n";
        connection.send_bytes(format!("{head}{body}").as_bytes());
        connection
            .read_response("POST")
            .assert_problem(401, "Authorization");
    }
}

#[test]
fn malformed_and_oversized_requests_are_logged_problems() {
    let mut home = Home::new();
    home.set("MAX_HEADER_SIZE", "8KiB");
    home.set("MAX_BODY_SIZE", "2KiB");
    home.run(["start"]).succeeds();
    for (server, host) in [
        ("public", home.public_address()),
        ("admin", home.admin_address()),
    ] {
        let send = |text: &str| {
            let mut connection = Connection::open(&host);
            connection.send_bytes(text.as_bytes());
            let answer = connection.read_response("GET");
            assert_eq!(answer.header("connection"), Some("close"));
            assert!(answer.header("x-request-id").is_some());
            assert_eq!(connection.read_to_end(), "");
            answer
        };
        send("nonsense\r\n\r\n").assert_problem(400, "HTTP/1.1");
        send("GET /a b HTTP/1.1\r\n\r\n").assert_problem(400, "HTTP/1.1");
        send(&format!(
            "GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n",
            "x".repeat(50_000)
        ))
        .assert_problem(431, "8192 bytes");
        send(&format!(
            "GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "x".repeat(50_000)
        ))
        .assert_problem(431, "8192 bytes");
        let fields = "X: 1\r\n".repeat(200);
        send(&format!(
            "GET / HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n"
        ))
        .assert_problem(431, "100 headers");
        let body = "x".repeat(3000);
        send(&format!(
            "POST /admin/stop HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3000\r\n\r\n{body}"
        ))
        .assert_problem(413, "2048 bytes");
        for (limit, hits) in [("header_size", 3), ("body_size", 1)] {
            let name =
                format!("fullon_http_limit_hits_total{{server=\"{server}\",limit=\"{limit}\"}}");
            assert_eq!(metric(&home, &name), hits, "{name}");
        }
    }
    // A chunked body, whose length is not known in advance.
    let bearer = home.bearer();
    let mut connection = Connection::open(&home.admin_address());
    let chunk = format!("800\r\n{}\r\n", " ".repeat(2048));
    let head = format!(
        "POST /admin/stop HTTP/1.1\r\nHost: localhost\r\nAuthorization: {bearer}\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    connection.send_bytes(format!("{head}{chunk}{chunk}0\r\n\r\n").as_bytes());
    connection
        .read_response("POST")
        .assert_problem(413, "2048 bytes");
    for status in ["400", "431"] {
        assert!(
            home.log()
                .contains(&format!("method=- path=\"-\" status={status}")),
            "{}",
            home.log()
        );
    }
    home.run(["status"]).succeeds();
}

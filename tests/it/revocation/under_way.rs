//! Responses with many log lines that are under way when their token or session ends.

use std::fs;
use std::io::Write as _;

use super::{ALL, assert_accepted, revoke_token, session_status, sign_in};
use crate::support::{Connection, Home};

/// More than the sockets buffer.
const LINES: usize = 400_000;

fn home_with_long_log() -> Home {
    let home = Home::new();
    let mut log = fs::File::create(home.log_file()).unwrap();
    let line = format!("2026-01-31T12:00:00Z INFO test: {}\n", "x".repeat(68));
    log.write_all(line.repeat(LINES).as_bytes()).unwrap();
    home.run(["start"]).succeeds();
    home
}

/// A response of which only the headers and the first bytes were read.
fn begin_download(home: &Home, headers: &[(&str, &str)]) -> Connection {
    let mut download = Connection::with_small_buffer(&home.admin_address());
    let headers = [headers, &[("Accept", "text/plain")]].concat();
    download.send("GET", "/admin/logs?lines=10000000", &headers, "");
    assert_eq!(download.read_head().status, 200);
    download
}

/// The number of bytes that come, and whether they are the whole response.
fn finish(mut download: Connection) -> (usize, bool) {
    let rest = download.read_to_end();
    (rest.len(), rest.ends_with("\r\n0\r\n\r\n"))
}

#[test]
fn revocation_breaks_off_log_downloads() {
    let home = home_with_long_log();
    let [stolen, other] = [(); 2].map(|()| home.token(ALL));
    let of_stolen = sign_in(&home, &stolen);
    let session = sign_in(&home, &other);
    let [stolen_bearer, bearer] = [&stolen, &other].map(|token| format!("Bearer {token}"));
    let close = ("Connection", "close");
    let begin = |headers: &[(&str, &str)]| begin_download(&home, &[headers, &[close]].concat());
    let ended = [
        begin(&[("Authorization", &stolen_bearer)]),
        begin(&of_stolen.headers()),
        begin(&session.headers()),
    ];
    let kept = begin(&[("Authorization", &bearer)]);
    revoke_token(&home, &stolen);
    let signed_out = session.request(&home.admin_address(), "DELETE", "/admin/session");
    assert_eq!(signed_out.status, 204);
    assert_eq!(session_status(&home, &session), 401);
    for (index, download) in ended.into_iter().enumerate() {
        let (length, is_whole) = finish(download);
        assert!(!is_whole && length < LINES * 100, "{index}: {length} bytes");
    }
    let (length, is_whole) = finish(kept);
    assert!(is_whole && length > LINES * 100, "{length} bytes");
    assert_accepted(&home, &other);
}

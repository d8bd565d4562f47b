//! Each change is a record, which commands and the API show.

use std::fs::{self};

use fullon_master_api::audit::{AuditFile, AuditTrail, Event, Outcome};
use serde_json::{Value, json};

use super::{audit_file, events, is_intact, key_of, records_in};
use crate::support::{Home, eventually, file_mode, request};

#[test]
fn every_change_is_a_record_in_a_chain() {
    let home = Home::started();
    home.call_admin_with("PUT", "/admin/log-level", r#"{"level":"debug"}"#);
    let reader = home.token("admin:read");
    assert_eq!(
        home.call_admin_as(&reader, "POST", "/admin/stop").status,
        403
    );
    home.restart();
    home.daemon().unwrap().terminate().unwrap();
    eventually("the daemon exits", || home.daemon().is_none());
    assert_eq!(file_mode(&audit_file(&home)), 0o600);

    let records = records_in(&audit_file(&home));
    assert_eq!(events(&records), ["log_level", "stop", "restart", "stop"]);
    let mut previous = "0".repeat(64);
    let log = home.log();
    for (record, number) in records.iter().zip(1..) {
        assert_eq!((&record["seq"], &record["v"]), (&json!(number), &json!(1)));
        assert_eq!(record["prev"], previous);
        record["hash"].as_str().unwrap().clone_into(&mut previous);
        assert_eq!(record["chain"].is_string(), number == 1);
        let place = format!("seq={number} hash={previous}");
        assert!(log.contains(&place), "{place} is not in the log: {log}");
    }
    assert_eq!(records[0]["detail"]["level"], "debug");
    assert_eq!(records[1]["outcome"], "refused");
    assert_eq!(records[1]["status"], 403);
    assert_eq!(records[2]["detail"]["timeout_ms"], 30_000);
    assert_eq!(records[3]["subject"], "SIGTERM");
    // Each record names its process.
    assert_ne!(records[2]["instance"], records[3]["instance"]);

    // The commands read the files of a daemon that is not running.
    let printed = home.run(["audit", "-n", "2", "--json"]).succeeds().stdout;
    let printed: Vec<Value> = printed
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(printed, records[2..]);
    home.run(["audit"]).succeeds().stdout_contains(&[
        "1 ",
        " log_level accepted",
        "4 ",
        "subject=SIGTERM",
    ]);
    let report = is_intact(&home);
    assert_eq!(report["records"], 4);
    assert_eq!(report["last_hash"], previous);
}

#[test]
fn client_request_id_is_beside_ours() {
    let home = Home::started();
    let bearer = home.bearer();
    // It looks like one of the daemon's own.
    let headers = [
        ("Authorization", bearer.as_str()),
        ("X-Request-Id", "0badcafe-00000001"),
    ];
    let response = request(&home.admin_address(), "POST", "/admin/reload", &headers, "");
    let record = &records_in(&audit_file(&home))[0];
    let own = response.header("x-request-id").unwrap();
    assert_eq!(record["request_id"], own);
    assert_ne!(own, "0badcafe-00000001");
    assert_eq!(record["client_request_id"], "0badcafe-00000001");
}

/// The API returns the records as they are in the file.
#[test]
fn records_and_head_are_in_the_api() {
    let home = Home::started();
    for _ in 0..5 {
        home.run(["reload"]).succeeds();
    }
    let path = audit_file(&home);
    let get = |query: &str| {
        let page = home.call_admin("GET", &format!("/admin/audit{query}"));
        assert_eq!(page.status, 200, "{page:#?}");
        page.json()["records"].as_array().unwrap().clone()
    };
    let records = records_in(&path);
    assert_eq!(get(""), records);
    assert_eq!(get("?lines=2"), records[3..]);
    assert_eq!(get("?lines=2&before_seq=4"), records[1..3]);
    assert_eq!(get("?before_seq=1"), [json!(null); 0]);
    for query in ["?lines=0", "?lines=1001", "?before_seq=-1", "?before=1"] {
        let response = home.call_admin("GET", &format!("/admin/audit{query}"));
        assert_eq!(response.status, 400, "{query}");
    }
    let status = home.call_admin("GET", "/admin/status").json();
    let expected = json!({
        "file": path.display().to_string(),
        "seq": 5,
        "hash": records[4]["hash"],
    });
    assert_eq!(status["audit"], expected);
    home.run(["doctor"])
        .succeeds()
        .stdout_contains(&["audit trail", "fullon.log.audit, 5 records"]);
    let head = format!("5:{}", records[4]["hash"].as_str().unwrap());
    home.run(["status"])
        .succeeds()
        .stdout_contains(&[&format!("Audit:     {head}")]);
    home.run(["audit", "--verify", "--head", &head]).succeeds();

    let url = format!("http://{}", home.admin_address());
    let remote = Home::new();
    remote.write_env(&format!("JWT_SECRET_KEY={}", key_of(&home)));
    let printed = remote
        .run(["audit", "--admin-url", &url, "-n", "2", "--json"])
        .succeeds()
        .stdout;
    let lines = fs::read_to_string(&path).unwrap();
    let last: Vec<_> = lines.lines().skip(3).collect();
    assert_eq!(printed.lines().collect::<Vec<_>>(), last);
    remote
        .run(["audit", "--admin-url", &url, "--verify"])
        .exits(2)
        .stderr_contains(&["--verify reads the audit file"]);
}

#[test]
fn texts_with_spaces_are_quoted() {
    let home = Home::new();
    let trail = AuditTrail::new(Some(AuditFile::open(&audit_file(&home)).unwrap()), "test");
    let mut event = Event::new("reload", Outcome::Accepted);
    event.subject = Some("x subject=root peer=1.2.3.4:5\u{2028}\u{feff}\u{e0041}".into());
    event.peer = Some("127.0.0.1:7".into());
    event.detail.insert("revoked".into(), json!("jti a=b"));
    trail.record(&event);
    home.run(["audit"]).succeeds().stdout_contains(&[
        r#" subject="x subject=root peer=1.2.3.4:5\u{2028}\u{feff}\u{e0041}" "#,
        " peer=127.0.0.1:7 ",
        r#" revoked="jti a=b""#,
    ]);
}

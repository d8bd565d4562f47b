//! The audit trail: each record holds the hash of the one before it, also after a writer was
//! killed.

use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use fullon_master_api::audit::{
    AuditFile, AuditTrail, Event, Outcome, last_records, trail_owner, verify,
};
use nix::sys::stat::Mode;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::doctor::{as_nobody, home_of_nobody};
use crate::listener_proof::OTHER_USER;
use crate::support::{
    ChildGuard, Connection, Home, eventually, file_mode, request, running_as_root, scale, spawn,
};

fn audit_file(home: &Home) -> PathBuf {
    home.path().join("fullon.log.audit")
}

/// The lines of a file, which must be records.
fn records_in(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn events(records: &[Value]) -> Vec<&str> {
    let events = records.iter().map(|record| record["event"].as_str());
    events.map(Option::unwrap).collect()
}

fn is_intact(home: &Home) -> Value {
    home.run(["audit", "--verify", "--json"]).succeeds().json()
}

fn write_records(path: &Path, count: usize) {
    let trail = AuditTrail::new(Some(AuditFile::open(path).unwrap()), "test");
    for number in 0..count {
        let mut event = Event::new("reload", Outcome::Accepted);
        event.request_id = Some(format!("{number}"));
        trail.record(&event);
    }
}

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

fn key_of(home: &Home) -> String {
    let key = fs::read_to_string(home.path().join(".fullon_master_api.key")).unwrap();
    key.trim().to_owned()
}

/// Not a test: a process that appends records until it is killed.
#[test]
fn writer_process() {
    let Some(path) = std::env::var_os("AUDIT_TRAIL_TO_WRITE") else {
        return;
    };
    loop {
        write_records(Path::new(&path), 5);
    }
}

fn start_writer(path: &Path) -> ChildGuard {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "audit_trail::writer_process"])
        .env("AUDIT_TRAIL_TO_WRITE", path)
        .stdout(Stdio::null());
    spawn(&mut command)
}

#[test]
fn killed_writers_leave_a_whole_chain() {
    let home = Home::new();
    let path = audit_file(&home);
    let mut writers = [(); 3].map(|()| start_writer(&path));
    let last = || {
        verify(&path, trail_owner(&path, None), None)
            .ok()
            .and_then(|report| report.last_seq)
    };
    for round in 0..scale::rounds() {
        let before = last();
        eventually("records are added", || last() > before);
        let index = usize::try_from(round % 3).unwrap();
        // Dropping the old one kills it.
        writers[index] = start_writer(&path);
    }
    drop(writers);
    let report = is_intact(&home);
    assert_eq!(report["first_seq"], 1);
    assert_eq!(report["records"], report["last_seq"]);
    assert_eq!(report["gaps"], json!([]));
}

/// A writer leaves it that is killed within its `write`, or before a full disk.
#[test]
fn torn_line_is_described_by_the_next_record() {
    let home = Home::new();
    let path = audit_file(&home);
    write_records(&path, 2);
    let whole = fs::read_to_string(&path).unwrap();
    let third = whole
        .lines()
        .nth(1)
        .unwrap()
        .replace("\"seq\":2", "\"seq\":3");
    for torn in [1, 9, 60, third.len() - 1] {
        fs::write(&path, format!("{whole}{}", &third[..torn])).unwrap();
        let report = is_intact(&home);
        assert_eq!(report["torn"][0]["line"], 3);
        write_records(&path, 2);
        let report = is_intact(&home);
        assert_eq!(report["records"], 4, "{report:#}");
        assert_eq!(report["torn"][0]["line"], 3, "{report:#}");
        // Nobody can pass other text off as a torn line.
        let text = fs::read_to_string(&path).unwrap();
        let mut lines: Vec<&str> = text.lines().collect();
        lines[2] = "something else";
        fs::write(&path, lines.join("\n") + "\n").unwrap();
        home.run(["audit", "--verify"])
            .exits(1)
            .stdout_contains(&["fullon.log.audit:3: is not a record"]);
        lines.remove(2);
        fs::write(&path, lines.join("\n") + "\n").unwrap();
        home.run(["audit", "--verify"]).exits(1);
    }
    fs::write(&path, format!("{whole}a line of somebody else\n")).unwrap();
    write_records(&path, 1);
    home.run(["audit", "--verify"])
        .exits(1)
        .stdout_contains(&["fullon.log.audit:3: is not a record"]);
}

#[test]
fn edits_deletions_swaps_insertions_and_missing_files_are_found() {
    let home = Home::new();
    let path = audit_file(&home);
    write_records(&path, 12);
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let name = |number: usize| match number {
        0 => path.clone(),
        number => PathBuf::from(format!("{}.{number}", path.display())),
    };
    // Three files of four records.
    let write = |lines: &[String]| {
        for (chunk, number) in lines.chunks(4).zip([2, 1, 0]) {
            fs::write(name(number), chunk.join("\n") + "\n").unwrap();
        }
    };
    let broken = |place: &str, message: &str| {
        let outcome = home.run(["audit", "--verify"]).exits(1);
        let stdout = &outcome.stdout;
        assert!(
            stdout.contains(&format!("{place}: ")) && stdout.contains(message),
            "{place}, {message}: {stdout}"
        );
    };
    write(&lines);
    let report = is_intact(&home);
    assert_eq!(
        (&report["files"], &report["records"]),
        (&json!(3), &json!(12))
    );

    let mut changed = lines.clone();
    changed[5] = changed[5].replace("accepted", "refused");
    write(&changed);
    broken("fullon.log.audit.1:2", "record 6 was changed");

    // An edit with its own hash made right breaks the link after it.
    let mut changed = lines.clone();
    changed[5] = with_right_hash(&changed[5].replace("accepted", "refused"));
    write(&changed);
    broken("fullon.log.audit.1:3", "record 7 does not follow");

    let mut changed = lines.clone();
    changed.remove(6);
    write(&changed);
    broken("fullon.log.audit.1:3", "records 7 to 7 are missing");

    let mut changed = lines.clone();
    changed.swap(8, 9);
    write(&changed);
    broken("fullon.log.audit:1", "records 9 to 9 are missing");

    let mut changed = lines.clone();
    changed.insert(2, lines[1].clone());
    write(&changed[..12]);
    broken(
        "fullon.log.audit.2:3",
        "record 2 is at the place of record 3",
    );
    changed[2] = "{}".to_owned();
    write(&changed[..12]);
    broken("fullon.log.audit.2:3", "is not a record");

    write(&lines);
    fs::remove_file(name(1)).unwrap();
    broken("fullon.log.audit:1", "records 5 to 8 are missing");
    write(&lines);
    fs::remove_file(name(2)).unwrap();
    broken("fullon.log.audit.1:1", "records 1 to 4 are missing");

    // Only somebody who kept the last number and hash notices that the end is missing.
    write(&lines);
    fs::remove_file(name(0)).unwrap();
    is_intact(&home);
    let last: Value = serde_json::from_str(&lines[11]).unwrap();
    let hash = last["hash"].as_str().unwrap();
    let head = format!("12:{hash}");
    home.run(["audit", "--verify", "--head", &head])
        .exits(1)
        .stdout_contains(&["records 9 to 12 are missing at the end"]);
    write(&lines);
    home.run(["audit", "--verify", "--head", &head]).succeeds();
    let other = format!("11:{hash}");
    home.run(["audit", "--verify", "--head", &other])
        .exits(1)
        .stdout_contains(&["record 11 has another hash"]);
    home.run(["audit", "--verify", "--head", "12:abc"]).exits(2);
}

/// The line with the hash that its text requires.
fn with_right_hash(line: &str) -> String {
    let (body, _) = line.rsplit_once(",\"hash\":").unwrap();
    format!("{body},\"hash\":\"{}\"}}", hex(&Sha256::digest(body)))
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
    digits.collect::<Vec<_>>().concat()
}

/// The daemon knows the last record. A shorter file is not continued as if nothing had happened.
#[test]
fn cut_below_a_running_daemon_shows() {
    let home = Home::started();
    for _ in 0..4 {
        home.run(["reload"]).succeeds();
    }
    let path = audit_file(&home);
    let text = fs::read_to_string(&path).unwrap();
    let kept: String = text.split_inclusive('\n').take(2).collect();
    fs::write(&path, kept).unwrap();
    home.run(["reload"]).succeeds();
    home.run(["audit", "--verify"])
        .exits(1)
        .stdout_contains(&["records 3 to 4 are missing"]);
}

/// Fills the file with records up to the size of a rotation.
pub fn fill_up(path: &Path, size: usize) {
    let first = fs::read_to_string(path).unwrap();
    let first: Value = serde_json::from_str(first.lines().last().unwrap()).unwrap();
    let mut previous = first["hash"].as_str().unwrap().to_owned();
    let mut seq = first["seq"].as_u64().unwrap();
    let mut text = String::new();
    while text.len() < size {
        seq += 1;
        let reason = "x".repeat(900);
        let body = format!(
            r#"{{"v":1,"seq":{seq},"time":"2026-01-01T00:00:00Z","event":"reload","outcome":"refused","reason":"{reason}","instance":"test","pid":1,"prev":"{previous}""#
        );
        previous = hex(&Sha256::digest(&body));
        for part in [&body, ",\"hash\":\"", &previous, "\"}\n"] {
            text.push_str(part);
        }
    }
    let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

#[test]
fn full_file_is_rotated_and_the_chain_continues() {
    let home = Home::started();
    home.run(["reload"]).succeeds();
    let path = audit_file(&home);
    fill_up(&path, 10 * 1024 * 1024);
    home.run(["reload"]).succeeds();
    let rotated = PathBuf::from(format!("{}.1", path.display()));
    assert_eq!(file_mode(&rotated), 0o600);
    assert_eq!(records_in(&path).len(), 1);
    let report = is_intact(&home);
    assert_eq!(report["files"], 2);
    assert_eq!(report["records"], report["last_seq"]);
    // Records of both files are read.
    let records = home.run(["audit", "-n", "3", "--json"]).succeeds().stdout;
    assert_eq!(records.lines().count(), 3);

    // Twenty rotated files are kept, and the oldest record is then not the first one.
    for number in (1..=20).rev() {
        let to = format!("{}.{}", path.display(), number + 1);
        let from = PathBuf::from(format!("{}.{number}", path.display()));
        if from.exists() {
            fs::rename(from, to).unwrap();
        }
    }
    for _ in 0..21 {
        fill_up(&path, 10 * 1024 * 1024);
        home.run(["reload"]).succeeds();
    }
    let files = fs::read_dir(home.path()).unwrap().filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_str().unwrap().contains(".audit")
    });
    assert_eq!(files.count(), 21);
    let report = is_intact(&home);
    assert!(report["first_seq"].as_u64().unwrap() > 1, "{report:#}");
}

/// Both processes of a restart write.
#[test]
fn both_processes_of_a_restart_continue_one_chain() {
    let home = Home::started();
    let mut logged = 0;
    for _ in 0..4 {
        // The old process refuses what comes on a kept connection, and records that.
        let mut connection = Connection::open(&home.admin_address());
        let bearer = home.bearer();
        let headers = [("Authorization", bearer.as_str())];
        connection.send("POST", "/admin/reload", &headers, "");
        assert_eq!(connection.read_response("POST").status, 200);
        home.restart();
        home.run(["reload"]).succeeds();
        connection.send("POST", "/admin/reload", &headers, "");
        assert_eq!(connection.read_response("POST").status, 409);
        logged += 4;
    }
    eventually("all records are written", || {
        records_in(&audit_file(&home)).len() == logged
    });
    is_intact(&home);
    let records = records_in(&audit_file(&home));
    let reasons = records.iter().filter(|record| record["status"] == 409);
    assert_eq!(reasons.count(), 4);
}

/// Anybody on the host can send requests, and must not be able to rotate the trail away.
#[test]
fn flood_without_token_is_one_record() {
    let home = Home::started();
    home.extend_time_limit(Duration::from_secs(scale::flood() / 200));
    home.run(["reload"]).succeeds();
    let hosts = [home.admin_address(), home.public_address()];
    std::thread::scope(|scope| {
        for host in &hosts {
            for _ in 0..4 {
                scope.spawn(move || {
                    let mut connection = Connection::open(host);
                    for number in 0..scale::flood() / 4 {
                        let bearer = if number % 2 == 0 { "Bearer x" } else { "" };
                        let headers = [("Authorization", bearer)];
                        connection.send("POST", "/admin/stop", &headers, "");
                        let status = connection.read_response("POST").status;
                        assert!(matches!(status, 401 | 404 | 429), "{status}");
                    }
                });
            }
        }
    });
    home.run(["stop"]).succeeds();
    let records = records_in(&audit_file(&home));
    // One a minute, and one at the end.
    let summaries: Vec<_> = records
        .iter()
        .filter(|record| record["event"] == "unauthenticated")
        .collect();
    assert_eq!(records.len(), summaries.len() + 2, "{records:#?}");
    assert!(summaries.len() < 20, "{}", summaries.len());
    let requests: u64 = summaries
        .iter()
        .map(|record| record["detail"]["requests"].as_u64().unwrap())
        .sum();
    assert_eq!(requests, scale::flood() / 4 * 4);
    assert_eq!(summaries[0]["outcome"], "refused");
    is_intact(&home);
}

#[test]
fn full_disk_does_not_keep_anybody_from_stopping() {
    if !running_as_root("full_disk_does_not_keep_anybody_from_stopping") {
        return;
    }
    let mut home = Home::new();
    let disk = home.path().join("disk");
    fs::create_dir(&disk).unwrap();
    home.set("AUDIT_FILE", disk.join("audit").to_str().unwrap());
    let mut command = home.command("unshare");
    command
        .args(["--mount", "--propagation", "private", "sh", "-ec"])
        .arg("mount -t tmpfs -o size=2m tmpfs disk && exec \"$0\" start")
        .arg(env!("CARGO_BIN_EXE_fullon"));
    crate::support::Outcome::run(&mut command).succeeds();
    let root = PathBuf::from(format!("/proc/{}/root", home.state().pid));
    let disk = root.join(disk.strip_prefix("/").unwrap());
    let filler = disk.join("filler");
    let fill = || {
        let mut file = fs::File::create(&filler).unwrap();
        while file.write_all(&[b'x'; 4096]).is_ok() {}
    };
    let reload = || assert_eq!(home.call_admin("POST", "/admin/reload").status, 200);
    let audit = disk.join("audit");
    let owner = trail_owner(&audit, None);

    reload();
    fill();
    // The last block of the file has room for some more.
    for _ in 0..1_100 {
        reload();
    }
    assert!(home.log().contains("records are kept in memory"));
    let status = home.call_admin("GET", "/admin/status").json();
    let metric = |name: &str| {
        let metrics = home.call_admin("GET", "/admin/metrics").body;
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().trim().parse::<u64>().unwrap()
    };
    assert_eq!(metric("fullon_audit_waiting_records "), 1_000);
    assert!(metric("fullon_audit_lost_records_total ") > 0);
    let error = status["audit"]["error"].as_str().unwrap();
    assert!(error.contains("No space left on device"), "{error}");
    home.run(["status"])
        .succeeds()
        .stdout_contains(&["Audit:", "No space left on device"]);
    home.run(["doctor"])
        .succeeds()
        .stdout_contains(&["audit trail", "No space left on device"]);
    fs::remove_file(&filler).unwrap();
    eventually("the records are written", || {
        let report = verify(&audit, owner, None).unwrap();
        assert!(report.intact, "{report:#?}");
        report.gaps.len() == 1
    });
    reload();
    let report = verify(&audit, owner, None).unwrap();
    assert!(report.intact, "{report:#?}");
    let gap = last_records(&audit, owner, 2, None).unwrap().remove(0);
    let missing = gap.detail["events"].as_u64().unwrap();
    // Without the record of the gap.
    assert_eq!(report.records - 1 + missing, 1_102);
    let status = home.call_admin("GET", "/admin/status").json();
    assert_eq!(status["audit"]["error"], Value::Null);
    assert_eq!(metric("fullon_audit_waiting_records "), 0);
    assert_eq!(metric("fullon_audit_lost_records_total "), missing);

    fill();
    for _ in 0..20 {
        reload();
    }
    home.run(["stop"]).succeeds();
    assert!(home.log().contains("audit records are lost"));
}

#[test]
fn unusable_audit_file_is_refused() {
    let mut home = Home::new();
    let target = home.path().join("target");
    fs::write(&target, "").unwrap();
    symlink(&target, audit_file(&home)).unwrap();
    home.run(["start"]).exits(1).stderr_contains(&[
        "audit file",
        "is a symbolic link",
        "AUDIT_FILE",
    ]);
    home.run(["doctor"]).exits(1).stdout_contains(&[
        "ERROR    audit trail",
        "is a symbolic link",
        "the daemon does not start",
    ]);
    fs::remove_file(audit_file(&home)).unwrap();
    let log = home.log_file().display().to_string();
    home.set("AUDIT_FILE", &log);
    home.run(["start"])
        .exits(2)
        .stderr_contains(&["AUDIT_FILE: is the same file as LOG_FILE"]);
}

/// A record in the key file would change the key, and one in the state file would end a restart.
#[test]
fn audit_file_with_another_purpose_is_refused() {
    let mut home = Home::new();
    home.token("admin:read");
    let directory = home.path().display().to_string();
    let name = home
        .path()
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    fs::hard_link(
        home.path().join(".fullon_master_api.key"),
        home.path().join("link"),
    )
    .unwrap();
    let log = format!("{directory}/../{name}/fullon.log");
    let cases = [
        ("AUDIT_FILE", ".fullon_master_api.key", "the key file"),
        ("AUDIT_FILE", "link", "the key file"),
        ("AUDIT_FILE", ".fullon_master_api.revoked", "revoked tokens"),
        ("AUDIT_FILE", ".fullon_master_api.pid", "PID_FILE"),
        (
            "AUDIT_FILE",
            ".fullon_master_api.pid.state",
            "the state file",
        ),
        ("AUDIT_FILE", ".env", ".env"),
        ("AUDIT_FILE", "fullon.log.1", "a rotated file of LOG_FILE"),
        ("AUDIT_FILE", "fullon.log.new", "a rotated file of LOG_FILE"),
        ("AUDIT_FILE", &log, "LOG_FILE"),
        ("AUDIT_FILE", "-", "`-` is stdout, but a file is needed"),
        ("LOG_FILE", ".fullon_master_api.key", "the key file"),
        ("LOG_FILE", ".fullon_master_api.pid.state", "the state file"),
        ("PID_FILE", ".fullon_master_api.key", "the key file"),
        (
            "PID_FILE",
            "fullon.log.audit.2",
            "a rotated file of AUDIT_FILE",
        ),
    ];
    let defaults = [("LOG_FILE", home.log_file()), ("PID_FILE", home.pid_file())];
    for (setting, value, reason) in cases {
        home.unset("AUDIT_FILE");
        for (name, path) in &defaults {
            home.set(name, path.to_str().unwrap());
        }
        home.run(["config", "--check"]).succeeds();
        home.set(setting, value);
        for command in [&["start"][..], &["config", "--check"]] {
            let outcome = home.run(command.iter().copied()).exits(2);
            outcome.stderr_contains(&[setting, reason]);
        }
        home.run(["doctor"])
            .exits(2)
            .stdout_contains(&[setting, reason]);
    }
}

fn rotated_file(home: &Home, number: u32) -> PathBuf {
    PathBuf::from(format!("{}.{number}", audit_file(home).display()))
}

/// Empty or small files do not look like twenty rotations.
#[test]
fn removed_first_records_are_found_beside_empty_rotated_files() {
    let home = Home::new();
    let path = audit_file(&home);
    write_records(&path, 30);
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let broken = |message: &str| {
        home.run(["audit", "--verify"])
            .exits(1)
            .stdout_contains(&[message]);
    };
    fs::write(&path, lines[5..].concat()).unwrap();
    for number in 1..=20 {
        fs::write(rotated_file(&home, number), "").unwrap();
    }
    broken("fullon.log.audit.1:1: a rotated file has no record");
    broken("records 1 to 5 are missing");
    for number in 1..=20 {
        let line = lines[usize::try_from(29 - number).unwrap()];
        fs::write(rotated_file(&home, number), line).unwrap();
    }
    fs::write(&path, lines[29]).unwrap();
    broken("records 1 to 9 are missing");
}

/// An edit cannot be passed off as a torn line.
#[test]
fn whole_lines_are_not_torn_ones() {
    let home = Home::new();
    let path = audit_file(&home);
    write_records(&path, 3);
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let first = lines[0];
    let other_version = with_right_hash(&first.replace("\"v\":1", "\"v\":9"));
    let number_zero = with_right_hash(&first.replace("\"seq\":1", "\"seq\":0"));
    let zeros = "0".repeat(64);
    let other_prev = with_right_hash(&first.replace(&zeros, &"a".repeat(64)));
    let torn = "{\"v\":1,\"seq\":4,\"time\":";
    for (changed, message) in [
        (text.replace('\n', "\r\n"), "is not a record"),
        (text.replace("\"}\n", "\"} \n"), "is not a record"),
        ("\n".to_owned(), "there is no record"),
        ("\0".repeat(1000), "there is no record"),
        (format!("{text}\n"), ":4: is not a record"),
        (format!("{text}{}\r\n", lines[2]), ":4: is not a record"),
        (format!("{torn}\n{text}"), ":1: is not a record"),
        (format!("{other_version}\n"), "has version 9"),
        (format!("{number_zero}\n"), "record 0 is not the first one"),
        (format!("{other_prev}\n"), "record 1 is not the first one"),
    ] {
        fs::write(&path, &changed).unwrap();
        home.run(["audit", "--verify"])
            .exits(1)
            .stdout_contains(&[message]);
    }
    // Only the newest file may end with a torn line.
    fs::write(&path, format!("{text}{torn}")).unwrap();
    is_intact(&home);
    fs::write(rotated_file(&home, 1), format!("{text}{torn}")).unwrap();
    fs::write(&path, "").unwrap();
    home.run(["audit", "--verify"])
        .exits(1)
        .stdout_contains(&["fullon.log.audit.1:4: is not a record"]);
    let other = format!("0:{}", "f".repeat(64));
    home.run(["audit", "--verify", "--head", &other]).exits(1);
}

/// A file without line ends does not have to fit into memory, and records continue after it.
#[test]
fn huge_file_is_read_and_continued_in_little_memory() {
    let home = Home::new();
    let path = audit_file(&home);
    write_records(&path, 3);
    let enlarge = |size: u64| {
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(size).unwrap();
    };
    let run = |arguments: &[&str]| {
        let mut command = home.command("prlimit");
        command
            .args(["--as=3000000000", "--", env!("CARGO_BIN_EXE_fullon")])
            .args(arguments);
        crate::support::Outcome::run(&mut command)
    };
    enlarge(40 << 30);
    run(&["audit", "--verify"])
        .exits(1)
        .stdout_contains(&["fullon.log.audit:4: is not a record"]);
    run(&["audit"]).succeeds();
    run(&["start"]).succeeds();
    run(&["reload"]).succeeds();
    // The huge file is a rotated one now.
    assert_eq!(records_in(&path).len(), 1);
    run(&["audit"]).succeeds().stdout_contains(&[" reload "]);
    let page = home.call_admin("GET", "/admin/audit");
    assert_eq!(page.status, 200, "{page:#?}");
    run(&["audit", "--verify"]).exits(1);
    run(&["stop"]).succeeds();
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

/// In `/tmp`, anybody can take the name of a rotated file.
#[test]
fn files_of_others_with_rotated_names_are_skipped() {
    if !running_as_root("files_of_others_with_rotated_names_are_skipped") {
        return;
    }
    let home = home_of_nobody();
    let name = |number: u32| PathBuf::from(format!("{}.{number}", audit_file(&home).display()));
    let take_names = || {
        fs::write(name(1), "").unwrap();
        fs::set_permissions(name(1), Permissions::from_mode(0o000)).unwrap();
        symlink("/etc/shadow", name(2)).unwrap();
        drop(UnixListener::bind(name(3)).unwrap());
        nix::unistd::mkfifo(&name(7), Mode::empty()).unwrap();
    };
    let run = |arguments: &[&str]| crate::support::Outcome::run(&mut as_nobody(&home, arguments));
    let notice = format!(
        "{} is not part of the audit trail: it belongs to another user",
        name(1).display()
    );
    // Before the first record there is nothing else to continue.
    take_names();
    run(&["doctor"]).stdout_contains(&[&notice]);
    run(&["start"]).succeeds();
    run(&["reload"]).succeeds();
    assert_eq!(records_in(&audit_file(&home)).len(), 1);
    run(&["status"])
        .succeeds()
        .stdout_contains(&["Warning:", &notice]);
    run(&["doctor"]).succeeds().stdout_contains(&[&notice]);
    run(&["audit"])
        .succeeds()
        .stdout_contains(&["1 ", "reload"]);
    let report = run(&["audit", "--verify", "--json"]).succeeds().json();
    assert_eq!(report["ignored"].as_array().unwrap().len(), 4, "{report:#}");
    run(&["audit", "--verify"])
        .succeeds()
        .stdout_contains(&[&notice, "Intact: 1 records"]);
    let page = home.call_admin("GET", "/admin/audit");
    assert_eq!(page.status, 200, "{page:#?}");
    // An empty current file is continued from a rotated one.
    fill_up(&audit_file(&home), 10 * 1024 * 1024);
    run(&["reload"]).succeeds();
    assert_eq!(records_in(&audit_file(&home)).len(), 1);
    assert_eq!(records_in(&name(4)).len() as u64, last_seq(&home) - 1);
    run(&["stop"]).succeeds();
    run(&["audit", "--verify"])
        .succeeds()
        .stdout_contains(&["Intact"]);
}

fn last_seq(home: &Home) -> u64 {
    let records = records_in(&audit_file(home));
    records.last().unwrap()["seq"].as_u64().unwrap()
}

/// A file that the daemon would refuse to write to is not shown as its trail.
#[test]
fn forged_trail_of_another_user_is_not_read() {
    if !running_as_root("forged_trail_of_another_user_is_not_read") {
        return;
    }
    let home = Home::new();
    let path = audit_file(&home);
    let rotated = PathBuf::from(format!("{}.1", path.display()));
    write_records(&path, 3);
    chown(&path, Some(OTHER_USER), None).unwrap();
    let all: [&[&str]; 2] = [&["audit"], &["audit", "--verify"]];
    for command in all {
        let outcome = home.run(command.iter().copied()).exits(1);
        outcome.stderr_contains(&["belongs to another user", "AUDIT_FILE"]);
    }
    fs::rename(&path, &rotated).unwrap();
    for command in all {
        let outcome = home.run(command.iter().copied()).exits(1);
        outcome.stderr_contains(&["does not exist"]);
    }
    // Beside a trail of this user, it adds nothing.
    write_records(&path, 1);
    let report = is_intact(&home);
    assert_eq!(report["records"], 1, "{report:#}");
    assert_eq!(report["ignored"][0]["path"], rotated.to_str().unwrap());
    fs::remove_file(&rotated).unwrap();
    fs::hard_link(&path, &rotated).unwrap();
    for command in all {
        let outcome = home.run(command.iter().copied()).exits(1);
        outcome.stderr_contains(&["has more than one hard link"]);
    }
    fs::remove_file(&rotated).unwrap();
    // root reads the trail of a service in its directory.
    chown(&path, Some(OTHER_USER), None).unwrap();
    chown(home.path(), Some(OTHER_USER), None).unwrap();
    assert_eq!(is_intact(&home)["records"], 1);
}

#[test]
fn without_log_file_there_is_no_audit_file_unless_it_is_set() {
    let mut home = Home::new();
    home.set("LOG_FILE", "-");
    let run = |home: &Home| {
        let daemon = crate::support::run_foreground(home);
        home.run(["reload"]).succeeds();
        daemon
    };
    let daemon = run(&home);
    home.run(["audit"])
        .exits(1)
        .stderr_contains(&["there is no audit file: set AUDIT_FILE"]);
    let response = home.call_admin("GET", "/admin/audit");
    response.assert_problem(409, "there is no audit file: set AUDIT_FILE");
    let status = home.call_admin("GET", "/admin/status").json();
    assert_eq!(status["audit"], Value::Null);
    home.run(["stop"]).succeeds();
    drop(daemon);
    let file = home.path().join("changes").display().to_string();
    home.set("AUDIT_FILE", &file);
    let daemon = run(&home);
    home.run(["audit"])
        .succeeds()
        .stdout_contains(&[" reload "]);
    assert_eq!(is_intact(&home)["records"], 1);
    home.run(["stop"]).succeeds();
    drop(daemon);
    home.unset("AUDIT_FILE");
    home.unset("LOG_FILE");
    home.set("LOG_FILE", home.log_file().to_str().unwrap());
    home.run(["audit"])
        .exits(1)
        .stderr_contains(&["fullon.log.audit does not exist"]);
}

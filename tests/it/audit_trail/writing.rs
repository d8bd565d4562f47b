//! Writers continue one chain, whenever they are killed, and whatever the disk does.

use std::fs::{self};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use fullon_master_api::audit::{last_records, trail_owner, verify};
use serde_json::{Value, json};

use super::{audit_file, fill_up, is_intact, records_in, write_records};
use crate::support::{
    ChildGuard, Connection, Home, eventually, file_mode, running_as_root, scale, spawn,
};

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
        .args(["--exact", "audit_trail::writing::writer_process"])
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
        verify(&path, trail_owner(&path, None), None, None)
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
        let report = verify(&audit, owner, None, None).unwrap();
        assert!(report.intact, "{report:#?}");
        report.gaps.len() == 1
    });
    reload();
    let report = verify(&audit, owner, None, None).unwrap();
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

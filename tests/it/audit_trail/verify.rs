//! `fullon audit --verify` finds what was changed.

use std::fs::{self};
use std::path::PathBuf;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{audit_file, hex, is_intact, records_in, rotated_file, write_records};
use crate::support::Home;

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
    home.run(["audit", "--verify"])
        .exits(1)
        .stdout_contains(&["records 3 to 4 are missing at the end"]);
    home.run(["reload"]).succeeds();
    home.run(["audit", "--verify"])
        .exits(1)
        .stdout_contains(&["records 3 to 4 are missing"]);
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

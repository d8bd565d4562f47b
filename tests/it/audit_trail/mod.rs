//! The audit trail: each record holds the hash of the one before it, also after a writer was
//! killed.

mod other_users;
mod records;
mod settings;
mod verify;
mod writing;

use std::fs::{self};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use fullon_master_api::audit::{AuditFile, AuditTrail, Event, Outcome};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::support::Home;

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

fn last_seq(home: &Home) -> u64 {
    let records = records_in(&audit_file(home));
    records.last().unwrap()["seq"].as_u64().unwrap()
}

fn rotated_file(home: &Home, number: u32) -> PathBuf {
    PathBuf::from(format!("{}.{number}", audit_file(home).display()))
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
    digits.collect::<Vec<_>>().concat()
}

fn key_of(home: &Home) -> String {
    let key = fs::read_to_string(home.path().join(".fullon_master_api.key")).unwrap();
    key.trim().to_owned()
}

//! The audit file, which another program may have written to.

#![expect(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "a broken promise has to panic"
)]

use std::path::PathBuf;

use super::event::{Event, Outcome};
use super::file::AuditFile;
use super::files::trail_owner;
use super::read::last_records;
use super::record::Record;
use super::verify::verify;

/// The directory of an audit file.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        let name = format!("fullon-fuzzed-{}", uuid::Uuid::new_v4().simple());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

thread_local! {
    static DIRECTORY: Directory = Directory::new();
}

/// The content of an audit file. It can be read, and another record continues it.
pub fn audit_file(bytes: &[u8]) {
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Some(record) = Record::parse(line) {
            let mut written = Vec::new();
            let head = record.write_line(&mut written).unwrap();
            let line = written.strip_suffix(b"\n").unwrap();
            assert!(Record::has_valid_hash(line));
            assert_eq!(Record::parse(line).map(|record| record.head()), Some(head));
        }
    }
    DIRECTORY.with(|directory| {
        let path = directory.0.join("audit");
        std::fs::write(&path, bytes).unwrap();
        let owner = trail_owner(&path, None);
        let before = verify(&path, owner, None, None).unwrap();
        let records = last_records(&path, owner, 10, None).unwrap();
        assert!(records.len() <= 10);
        assert!(records.is_sorted_by(|one, next| one.seq < next.seq));

        let file = AuditFile::open(&path).unwrap();
        let known = file.head().unwrap();
        let event = Event::new("reload", Outcome::Accepted);
        let head = file.append(&[event], "fuzzed", &known).unwrap();
        let after = verify(&path, owner, Some(&head), None).unwrap();
        assert_eq!(after.records, before.records + 1);
        assert_eq!(after.last_hash, Some(head.hash));
        // An append neither breaks a chain nor repairs one.
        // Only a torn first record is no trail before and one after.
        let had_no_record = before.records == 0 && !bytes.is_empty();
        let is_same = after.intact == before.intact;
        assert!(is_same || had_no_record, "{before:#?} {after:#?}");
    });
}

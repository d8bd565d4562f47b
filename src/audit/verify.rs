//! Checks the chain of the trail from its oldest record to its newest.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::file::KEEP;
use super::files::{self, IgnoredFile, TrailFile, TrailFiles};
use super::record::{Head, Record, Torn};
use super::trail::GAP;

/// More findings of a kind are counted, but not listed.
const MAX_LISTED: usize = 100;

/// The result of [`verify`].
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether the chain is whole.
    pub intact: bool,
    pub files: usize,
    pub records: u64,
    /// Number of the oldest record; older ones were rotated away.
    pub first_seq: Option<u64>,
    /// Number of the newest record.
    pub last_seq: Option<u64>,
    /// Hash of the newest record.
    pub last_hash: Option<String>,
    /// Where the chain is broken: at most 100 places.
    pub problems: Vec<Place>,
    /// Lines that a writer was interrupted in. They break nothing.
    pub torn: Vec<Place>,
    /// Records that stand for events that could not be written.
    pub gaps: Vec<Place>,
    /// Files with the name of a rotated one that are not part of the trail.
    pub ignored: Vec<IgnoredFile>,
}

/// A line, and what was found there.
#[derive(Debug, Serialize)]
pub struct Place {
    pub file: String,
    pub line: u64,
    pub message: String,
}

/// Checks all files of the trail of `owner`, and that it contains `head`, if that is given.
///
/// # Errors
///
/// A file cannot be read.
pub fn verify(path: &Path, owner: u32, head: Option<&Head>) -> io::Result<Report> {
    let mut checker = Checker::new(head);
    // Writers wait while the files are opened. Later records are not checked.
    let Snapshot { files, ignored } = open_snapshot(path, owner)?;
    let rotated = files.iter().filter(|(file, _)| file.path != path).count();
    for (file, size) in files.iter().rev() {
        checker.check_file(&file.path, &file.file, *size)?;
    }
    checker.check_start(rotated);
    checker.check_head(path);
    checker.report.files = files.len();
    checker.report.ignored = ignored;
    checker.report.intact = checker.report.problems.is_empty();
    Ok(checker.report)
}

/// The files at one moment.
struct Snapshot {
    /// Newest first, with their sizes.
    files: Vec<(TrailFile, u64)>,
    ignored: Vec<IgnoredFile>,
}

fn open_snapshot(path: &Path, owner: u32) -> io::Result<Snapshot> {
    let mut attempts = 0;
    loop {
        let current = files::open_current(path, owner)?;
        // A writer that keeps its lock does not keep anybody from reading.
        let _lock = match &current {
            Some(current) => files::lock(&current.file, false)?,
            None => None,
        };
        attempts += 1;
        if let Some(current) = &current
            && attempts < files::MAX_ATTEMPTS
            && !files::is_at(path, &current.file)?
        {
            continue;
        }
        let TrailFiles { files, ignored } = files::open_all(path, owner)?;
        if files.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("{}: no such file", path.display()),
            ));
        }
        let sized = files.into_iter().map(|file| {
            let size = file.file.metadata()?.len();
            Ok((file, size))
        });
        return Ok(Snapshot {
            files: sized.collect::<io::Result<_>>()?,
            ignored,
        });
    }
}

struct Checker<'a> {
    report: Report,
    /// The record before.
    previous: Option<Head>,
    wanted: Option<&'a Head>,
    was_found: bool,
    first_place: Option<(String, u64)>,
}

impl<'a> Checker<'a> {
    fn new(wanted: Option<&'a Head>) -> Self {
        Self {
            report: Report {
                intact: false,
                files: 0,
                records: 0,
                first_seq: None,
                last_seq: None,
                last_hash: None,
                problems: Vec::new(),
                torn: Vec::new(),
                gaps: Vec::new(),
                ignored: Vec::new(),
            },
            previous: None,
            wanted,
            was_found: false,
            first_place: None,
        }
    }

    fn check_file(&mut self, path: &Path, file: &File, size: u64) -> io::Result<()> {
        let shown = path.display().to_string();
        let mut reader = BufReader::new(file.take(size));
        let mut line = Vec::new();
        let mut number = 0;
        // Bytes since the record before that are no record, and the line where they begin.
        let mut torn = Vec::new();
        let mut torn_line = 0;
        loop {
            line.clear();
            if reader.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            number += 1;
            // The last record may lack its newline.
            let text = line.strip_suffix(b"\n").unwrap_or(&line);
            if let Some(record) = Record::parse(text) {
                self.check_torn(&shown, torn_line, &torn, Some(&record));
                torn.clear();
                self.check_record(&shown, number, text, &record);
                continue;
            }
            if torn.is_empty() {
                torn_line = number;
            }
            torn.extend_from_slice(&line);
        }
        self.check_torn(&shown, torn_line, &torn, None);
        Ok(())
    }

    /// Checks what is between two records, or at the end of a file.
    fn check_torn(&mut self, file: &str, line: u64, torn: &[u8], next: Option<&Record>) {
        let found = Torn::of(torn);
        let expected = match next {
            Some(next) => next.torn.clone(),
            // Nothing describes the end of the trail yet.
            None => found.clone(),
        };
        let next_seq = self.previous.as_ref().map(|previous| previous.seq + 1);
        let mut fragments = torn.split(|b| *b == b'\n');
        if found != expected {
            let line = if torn.is_empty() { 0 } else { line };
            let message = if torn.is_empty() {
                "a line that was torn before this record is missing"
            } else {
                "is not a record"
            };
            self.problem(file, line.max(1), message.into());
        } else if !torn.is_empty() {
            if fragments.all(|fragment| is_fragment(fragment, next_seq)) {
                let message = format!("a writer was interrupted: {} bytes", torn.len());
                push(&mut self.report.torn, file, line, message);
            } else {
                self.problem(file, line, "is not a record".into());
            }
        }
    }

    fn check_record(&mut self, file: &str, line: u64, text: &[u8], record: &Record) {
        self.report.records += 1;
        let head = record.head();
        if !Record::has_valid_hash(text) {
            self.problem(
                file,
                line,
                format!("record {} was changed: its hash is another one", record.seq),
            );
        }
        if let Some(previous) = self.previous.take() {
            let expected = previous.seq + 1;
            if record.seq > expected {
                let message = format!(
                    "records {expected} to {} are missing before this one",
                    record.seq - 1
                );
                self.problem(file, line, message);
            } else if record.seq < expected {
                let message = format!("record {} is at the place of record {expected}", record.seq);
                self.problem(file, line, message);
            } else if record.prev != previous.hash {
                let message = format!(
                    "record {} does not follow the record before it, which was replaced",
                    record.seq
                );
                self.problem(file, line, message);
            }
        } else {
            self.report.first_seq = Some(record.seq);
            self.first_place = Some((file.to_owned(), line));
        }
        if record.event == GAP {
            let events = record.detail.get("events").and_then(Value::as_u64);
            let events = events.map_or_else(|| "some".to_owned(), |events| events.to_string());
            let message = format!("{events} events could not be written");
            push(&mut self.report.gaps, file, line, message);
        }
        if let Some(wanted) = self.wanted.filter(|wanted| wanted.seq == record.seq) {
            self.was_found = true;
            if wanted.hash != record.hash {
                let message = format!("record {} has another hash than --head", record.seq);
                self.problem(file, line, message);
            }
        }
        self.report.last_seq = Some(head.seq);
        self.report.last_hash = Some(head.hash.clone());
        self.previous = Some(head);
    }

    /// Older records are missing only after as many files as are kept.
    fn check_start(&mut self, rotated: usize) {
        if let (Some(first), Some((file, line))) = (self.report.first_seq, self.first_place.take())
            && first > 1
            && rotated < KEEP as usize
        {
            let message = format!("records 1 to {} are missing before this one", first - 1);
            self.problem(&file, line, message);
        }
    }

    fn check_head(&mut self, path: &Path) {
        let Some(wanted) = self
            .wanted
            .filter(|wanted| wanted.seq > 0 && !self.was_found)
        else {
            return;
        };
        let message = match (self.report.first_seq, self.report.last_seq) {
            (Some(first), _) if wanted.seq < first => format!(
                "record {} of --head was rotated away: the oldest record is {first}",
                wanted.seq
            ),
            (_, Some(last)) if wanted.seq > last => {
                format!(
                    "records {} to {} are missing at the end",
                    last + 1,
                    wanted.seq
                )
            }
            (_, Some(_)) => format!("record {} of --head is missing", wanted.seq),
            (_, None) => format!("records 1 to {} are missing", wanted.seq),
        };
        let line = 0;
        self.problem(&path.display().to_string(), line, message);
    }

    fn problem(&mut self, file: &str, line: u64, message: String) {
        push(&mut self.report.problems, file, line, message);
    }
}

/// Whether the text may be the beginning of the record with this number. After a power failure it
/// may end with zeros.
fn is_fragment(text: &[u8], seq: Option<u64>) -> bool {
    let len = text.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
    let text = &text[..len];
    let start = match seq {
        Some(seq) => Record::line_start(seq),
        // The oldest file may begin with the rest of a record whose number is unknown.
        None => Record::line_start(1).trim_end_matches("1,").to_owned(),
    };
    let len = text.len().min(start.len());
    text[..len] == start.as_bytes()[..len] && Record::parse(text).is_none()
}

fn push(places: &mut Vec<Place>, file: &str, line: u64, message: String) {
    if places.len() < MAX_LISTED {
        places.push(Place {
            file: file.to_owned(),
            line,
            message,
        });
    }
}

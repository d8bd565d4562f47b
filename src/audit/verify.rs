//! Checks the chain of the trail from its oldest record to its newest.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::Path;

use memchr::memchr;
use serde::Serialize;
use serde_json::Value;

use super::file::{KEEP, MAX_SIZE};
use super::files::{self, IgnoredFile, TrailFile, TrailFiles};
use super::read::{MAX_JUNK_BYTES, MAX_LINE_BYTES};
use super::record::{Head, Record, Torn, VERSION};
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
    /// Number of the last record of the running daemon, which the trail contains; `None` if no
    /// daemon was asked.
    pub daemon_seq: Option<u64>,
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

/// Checks all files of the trail of `owner`, and that it contains the record `head`, and the one that
/// the running daemon wrote last, if they are given.
///
/// # Errors
///
/// A file cannot be read.
pub fn verify(
    path: &Path,
    owner: u32,
    head: Option<&Head>,
    daemon: Option<&Head>,
) -> io::Result<Report> {
    let mut checker = Checker::new(head, daemon);
    // Writers wait while the files are opened. Later records are not checked.
    let Snapshot { files, ignored } = open_snapshot(path, owner)?;
    for (index, (file, size)) in files.iter().enumerate().rev() {
        checker.check_file(&file.path, &file.file, *size, index == 0)?;
    }
    // Others were not rotated by the daemon.
    let is_full = |(file, size): &&(TrailFile, u64)| file.path != path && *size >= MAX_SIZE;
    checker.check_start(files.iter().filter(is_full).count());
    if checker.report.records == 0 && files.iter().any(|(_, size)| *size > 0) {
        checker.problem(&path.display().to_string(), 1, "there is no record".into());
    }
    checker.check_wanted(path);
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
    wanted: Vec<Wanted<'a>>,
    first_place: Option<(String, u64)>,
}

/// A record that the trail must contain.
struct Wanted<'a> {
    head: &'a Head,
    /// The text completes "record 7 of …".
    source: &'static str,
    was_found: bool,
}

impl<'a> Checker<'a> {
    fn new(head: Option<&'a Head>, daemon: Option<&'a Head>) -> Self {
        let sources = [(head, "--head"), (daemon, "the running daemon")];
        let wanted = sources.into_iter().filter_map(|(head, source)| {
            Some(Wanted {
                head: head?,
                source,
                was_found: false,
            })
        });
        Self {
            report: Report {
                intact: false,
                files: 0,
                records: 0,
                first_seq: None,
                last_seq: None,
                last_hash: None,
                daemon_seq: daemon.map(|head| head.seq),
                problems: Vec::new(),
                torn: Vec::new(),
                gaps: Vec::new(),
                ignored: Vec::new(),
            },
            previous: None,
            wanted: wanted.collect(),
            first_place: None,
        }
    }

    fn check_file(
        &mut self,
        path: &Path,
        file: &File,
        size: u64,
        is_newest: bool,
    ) -> io::Result<()> {
        let shown = path.display().to_string();
        let records_before = self.report.records;
        let mut reader = BufReader::new(file.take(size));
        let mut line = Vec::new();
        let mut number = 0;
        let mut torn = TornLines::default();
        while let Some(skipped) = read_line(&mut reader, &mut line)? {
            number += 1;
            // The last record may lack its newline.
            let text = line.strip_suffix(b"\n").unwrap_or(&line);
            let record = (skipped == 0).then(|| Record::parse(text)).flatten();
            if let Some(record) = record {
                self.check_torn(&shown, &torn, Some(&record), is_newest);
                torn = TornLines::default();
                self.check_record(&shown, number, text, &record);
                continue;
            }
            torn.add(number, &line, skipped);
            if torn.len > MAX_JUNK_BYTES {
                break;
            }
        }
        self.check_torn(&shown, &torn, None, is_newest);
        if !is_newest && self.report.records == records_before {
            let message = "a rotated file has no record";
            self.problem(&shown, 1, message.into());
        }
        Ok(())
    }

    /// Checks the bytes between two records, or at the end of a file.
    fn check_torn(&mut self, file: &str, torn: &TornLines, next: Option<&Record>, is_newest: bool) {
        let found = Torn::of(&torn.bytes);
        let is_described = match next {
            Some(next) => next.torn == found,
            // Nothing describes the end of the trail yet. A file with a torn end is not rotated.
            None => is_newest,
        };
        let next_seq = match (next, &self.previous) {
            (Some(next), _) => next.seq,
            (None, Some(previous)) => previous.seq + 1,
            (None, None) => 1,
        };
        if torn.len == 0 {
            if !is_described && next.is_some() {
                let message = "a line that was torn before this record is missing";
                self.problem(file, 1, message.into());
            }
        } else if is_described && torn.are_fragments(next_seq) {
            let message = format!("a writer was interrupted: {} bytes", torn.len);
            push(&mut self.report.torn, file, torn.line, message);
        } else {
            self.problem(file, torn.line, "is not a record".into());
        }
    }

    fn check_record(&mut self, file: &str, line: u64, text: &[u8], record: &Record) {
        self.report.records += 1;
        let head = record.head();
        if record.v != VERSION {
            let message = format!(
                "record {} has version {}, which this program does not know",
                record.seq, record.v
            );
            self.problem(file, line, message);
        }
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
            if record.seq == 0 || record.seq == 1 && record.prev != Head::empty().hash {
                let message = format!("record {} is not the first one of a trail", record.seq);
                self.problem(file, line, message);
            }
            self.report.first_seq = Some(record.seq);
            self.first_place = Some((file.to_owned(), line));
        }
        if record.event == GAP {
            let events = record.detail.get("events").and_then(Value::as_u64);
            let events = events.map_or_else(|| "some".to_owned(), |events| events.to_string());
            let message = format!("{events} events could not be written");
            push(&mut self.report.gaps, file, line, message);
        }
        let mut problems = Vec::new();
        for wanted in &mut self.wanted {
            if wanted.head.seq == record.seq {
                wanted.was_found = true;
                if wanted.head.hash != record.hash {
                    let (seq, source) = (record.seq, wanted.source);
                    problems.push(format!(
                        "record {seq} has another hash than that of {source}"
                    ));
                }
            }
        }
        for message in problems {
            self.problem(file, line, message);
        }
        self.report.last_seq = Some(head.seq);
        self.report.last_hash = Some(head.hash.clone());
        self.previous = Some(head);
    }

    /// Older records are missing only after as many full files as are kept.
    fn check_start(&mut self, rotated: usize) {
        if let (Some(first), Some((file, line))) = (self.report.first_seq, self.first_place.take())
            && first > 1
            && rotated < KEEP as usize
        {
            let message = format!("records 1 to {} are missing before this one", first - 1);
            self.problem(&file, line, message);
        }
    }

    fn check_wanted(&mut self, path: &Path) {
        for wanted in std::mem::take(&mut self.wanted) {
            if !wanted.was_found {
                self.check_missing(path, wanted.head, wanted.source);
            }
        }
    }

    fn check_missing(&mut self, path: &Path, wanted: &Head, source: &str) {
        let shown = path.display().to_string();
        if wanted.seq == 0 {
            if *wanted != Head::empty() {
                let message =
                    format!("record 0 of {source}: the hash of an empty trail is 64 zeros");
                self.problem(&shown, 0, message);
            }
            return;
        }
        let message = match (self.report.first_seq, self.report.last_seq) {
            (Some(first), _) if wanted.seq < first => format!(
                "record {} of {source} was rotated away: the oldest record is {first}",
                wanted.seq
            ),
            (_, Some(last)) if wanted.seq > last => {
                format!(
                    "records {} to {} are missing at the end",
                    last + 1,
                    wanted.seq
                )
            }
            (_, Some(_)) => format!("record {} of {source} is missing", wanted.seq),
            (_, None) => format!("records 1 to {} are missing", wanted.seq),
        };
        self.problem(&shown, 0, message);
    }

    fn problem(&mut self, file: &str, line: u64, message: String) {
        push(&mut self.report.problems, file, line, message);
    }
}

/// Bytes since the record before that are no record.
#[derive(Default)]
struct TornLines {
    /// The number of the first line.
    line: u64,
    /// All bytes, unless there are more than a writer leaves.
    bytes: Vec<u8>,
    len: u64,
}

impl TornLines {
    fn add(&mut self, number: u64, line: &[u8], skipped: u64) {
        if self.len == 0 {
            self.line = number;
        }
        self.len += line.len() as u64 + skipped;
        if self.len <= MAX_LINE_BYTES as u64 {
            self.bytes.extend_from_slice(line);
        }
    }

    /// Whether interrupted writers can have left these bytes before the record with this number.
    fn are_fragments(&self, seq: u64) -> bool {
        let text = self.bytes.strip_suffix(b"\n").unwrap_or(&self.bytes);
        self.len == self.bytes.len() as u64
            && text.split(|b| *b == b'\n').all(|it| is_fragment(it, seq))
    }
}

/// Whether the text may be the beginning of the record with this number. After a power failure it
/// may end with zeros.
fn is_fragment(text: &[u8], seq: u64) -> bool {
    let is_empty = text.is_empty();
    let len = text.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
    let text = &text[..len];
    let start = Record::line_start(seq);
    let len = text.len().min(start.len());
    !is_empty && text[..len] == start.as_bytes()[..len] && !Record::is_ended_in(text)
}

/// Reads a line with its newline, and returns how many of its bytes are not in `line`, because it is
/// longer than a record. `None` at the end.
fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Option<u64>> {
    line.clear();
    let len = reader
        .by_ref()
        .take(MAX_LINE_BYTES as u64)
        .read_until(b'\n', line)?;
    if len < MAX_LINE_BYTES || line.ends_with(b"\n") {
        return Ok((len > 0).then_some(0));
    }
    let mut skipped = 0;
    while skipped <= MAX_JUNK_BYTES {
        let buffer = reader.fill_buf()?;
        let newline = memchr(b'\n', buffer);
        let len = newline.map_or(buffer.len(), |at| at + 1);
        reader.consume(len);
        skipped += len as u64;
        if newline.is_some() || len == 0 {
            break;
        }
    }
    Ok(Some(skipped))
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

//! Following the log: history and what comes, as one sequence.
//!
//! A follower holds its place in the file and at most one block of it. History is nothing but a place further back. It
//! reads as fast as its own reader takes what it finds; whoever does not read costs nothing but that place.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use memchr::memchr;

use super::cursor::{Cursor, FileId};
use super::entry::{Filter, MAX_LINE_BYTES, entry};
use super::watch::{Subscription, Watcher};
use super::{open_for_reading, tail};
use crate::api::LogEntry;

const BLOCK: usize = 64 * 1024;
/// How much [`Follower::rest`] reads at most, in blocks.
const REST_BLOCKS: usize = 16;

/// Where to begin.
#[derive(Debug, Clone, Copy)]
pub enum From {
    /// With this many of the last lines.
    Last(usize),
    /// With the line after this one.
    After(Cursor),
}

/// What a follower sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A line.
    Entry(LogEntry),
    /// Lines are missing here: the place is gone, or the file was cut short.
    Gap,
}

/// Reads the log from a place on, for ever.
#[derive(Debug)]
pub struct Follower {
    changes: Subscription,
    reader: Reader,
}

impl Follower {
    /// Begins to follow. Must be called within a tokio runtime, but not on one of its workers: the history is searched
    /// here, and may lie far back.
    ///
    /// # Errors
    ///
    /// The log is there but cannot be read.
    pub fn new(watcher: &Watcher, from: From, filter: Filter) -> io::Result<Self> {
        let changes = watcher.subscribe();
        let mut reader = Reader {
            path: watcher.path().to_owned(),
            filter,
            begins_with_gap: false,
            source: None,
        };
        reader.begin(from)?;
        Ok(Self { changes, reader })
    }

    /// The next items, at least one, as soon as there are any. Nothing is lost when the future is dropped.
    ///
    /// A block is read where it is asked for: the file's end is in memory, and handing it to another thread costs more.
    ///
    /// # Errors
    ///
    /// The log cannot be read.
    pub async fn next(&mut self) -> io::Result<Vec<Item>> {
        loop {
            // Seen before the file is read, so that what arrives in between wakes us again.
            self.changes.mark_seen();
            match self.reader.step()? {
                Step::Items(items) => return Ok(items),
                Step::More => tokio::task::yield_now().await,
                Step::Idle => self.changes.changed().await,
            }
        }
    }

    /// What is there now and was not returned yet, at most 1 MiB of the file.
    ///
    /// # Errors
    ///
    /// The log cannot be read.
    pub fn rest(&mut self) -> io::Result<Vec<Item>> {
        let mut rest = Vec::new();
        for _ in 0..REST_BLOCKS {
            match self.reader.step()? {
                Step::Items(items) => rest.extend(items),
                Step::More => {}
                Step::Idle => break,
            }
        }
        Ok(rest)
    }
}

/// What reading one block came to.
enum Step {
    Items(Vec<Item>),
    /// Nothing that is wanted, but there is more.
    More,
    /// The end, for now.
    Idle,
}

#[derive(Debug)]
struct Reader {
    path: PathBuf,
    filter: Filter,
    begins_with_gap: bool,
    source: Option<SourceFile>,
}

/// The file being read; it may have been renamed meanwhile.
#[derive(Debug)]
struct SourceFile {
    file: File,
    id: FileId,
    /// Where the line that is being read begins.
    line_start: u64,
    /// How much of that line was read so far, and its first bytes.
    line_len: u64,
    line: Vec<u8>,
    /// Another file has its name, and has begun to be written.
    is_replaced: bool,
}

impl SourceFile {
    fn new(file: File, id: FileId, line_start: u64) -> Self {
        Self {
            file,
            id,
            line_start,
            line_len: 0,
            line: Vec::new(),
            is_replaced: false,
        }
    }

    /// Takes the next block apart. Whether there was one.
    fn read(
        &mut self,
        wanted: impl Fn(&LogEntry) -> bool,
        items: &mut Vec<Item>,
    ) -> io::Result<bool> {
        let mut block = vec![0; BLOCK];
        let read = self
            .file
            .read_at(&mut block, self.line_start + self.line_len)?;
        let mut rest = &block[..read];
        while !rest.is_empty() {
            let newline = memchr(b'\n', rest);
            let (part, after) = rest.split_at(newline.map_or(rest.len(), |at| at + 1));
            rest = after;
            let text = &part[..newline.unwrap_or(part.len())];
            let room = MAX_LINE_BYTES - self.line.len();
            self.line.extend_from_slice(&text[..text.len().min(room)]);
            self.line_len += part.len() as u64;
            if newline.is_some() {
                let cursor = Cursor {
                    file: self.id,
                    offset: self.line_start,
                    len: self.line_len,
                };
                let entry = entry(cursor, &self.line, true);
                if wanted(&entry) {
                    items.push(Item::Entry(entry));
                }
                self.line_start = cursor.end();
                self.line_len = 0;
                self.line.clear();
            }
        }
        Ok(read > 0)
    }
}

impl Reader {
    fn begin(&mut self, from: From) -> io::Result<()> {
        let Some((file, id)) = open(&self.path)? else {
            if matches!(from, From::After(_)) {
                self.begins_with_gap = true;
            }
            return Ok(());
        };
        let start = match from {
            // What follows is read forward from there, as its reader takes it.
            From::Last(lines) => tail::start_of_last(&file, lines, &self.filter)?,
            From::After(cursor) => resume_at(&file, id, cursor).unwrap_or_else(|| {
                self.begins_with_gap = true;
                0
            }),
        };
        self.source = Some(SourceFile::new(file, id, start));
        Ok(())
    }

    fn step(&mut self) -> io::Result<Step> {
        if std::mem::take(&mut self.begins_with_gap) {
            return Ok(Step::Items(vec![Item::Gap]));
        }
        let Some(source) = &mut self.source else {
            let Some((file, id)) = open(&self.path)? else {
                return Ok(Step::Idle);
            };
            self.source = Some(SourceFile::new(file, id, 0));
            return Ok(Step::More);
        };
        let filter = &self.filter;
        let wanted = |entry: &LogEntry| !filter.is_too_old(entry) && filter.wants(entry);
        let mut items = Vec::new();
        let has_read = source.read(wanted, &mut items)?;
        if !items.is_empty() {
            return Ok(Step::Items(items));
        }
        if has_read {
            return Ok(Step::More);
        }
        if source.file.metadata()?.len() < source.line_start + source.line_len {
            // Cut short in place.
            *source = SourceFile::new(source.file.try_clone()?, source.id, 0);
            return Ok(Step::Items(vec![Item::Gap]));
        }
        let successor = match open(&self.path)? {
            Some((file, id)) if id != source.id && file.metadata()?.len() > 0 => (file, id),
            _ => return Ok(Step::Idle),
        };
        if source.is_replaced {
            let (file, id) = successor;
            self.source = Some(SourceFile::new(file, id, 0));
        } else {
            // The old file may have got its last lines since it was read; from now on it gets none.
            source.is_replaced = true;
        }
        Ok(Step::More)
    }
}

fn open(path: &Path) -> io::Result<Option<(File, FileId)>> {
    match open_for_reading(path) {
        Ok(file) => {
            let id = FileId::of(&file.metadata()?);
            Ok(Some((file, id)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where the line after the cursor's begins, if that line is still where it was.
fn resume_at(file: &File, id: FileId, cursor: Cursor) -> Option<u64> {
    let ends_a_line = |place: u64| {
        let mut byte = [0];
        place == 0 || file.read_exact_at(&mut byte, place - 1).is_ok() && byte == *b"\n"
    };
    if cursor.file != id {
        None
    } else if ends_a_line(cursor.end()) {
        Some(cursor.end())
    } else {
        // The line was not finished when it was read: it comes again, whole.
        ends_a_line(cursor.offset).then_some(cursor.offset)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write as _;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    struct Log {
        _directory: tempfile::TempDir,
        path: PathBuf,
        watcher: Arc<Watcher>,
    }

    impl Log {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("log");
            Self {
                watcher: Watcher::new(path.clone()),
                _directory: directory,
                path,
            }
        }

        fn append(&self, text: &str) {
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(&self.path)
                .unwrap()
                .write_all(text.as_bytes())
                .unwrap();
        }

        fn follow(&self, from: From) -> Follower {
            Follower::new(&self.watcher, from, Filter::default()).unwrap()
        }
    }

    async fn collect(follower: &mut Follower, count: usize) -> Vec<Item> {
        let mut items = Vec::new();
        while items.len() < count {
            let next = tokio::time::timeout(Duration::from_secs(10), follower.next());
            items.extend(next.await.expect("no line arrived").unwrap());
        }
        items
    }

    fn texts(items: &[Item]) -> Vec<&str> {
        items
            .iter()
            .map(|item| match item {
                Item::Entry(entry) => entry.line.as_str(),
                Item::Gap => "(gap)",
            })
            .collect()
    }

    #[tokio::test]
    async fn history_and_live_lines_are_one_sequence() {
        let log = Log::new();
        log.append("1\n2\n3\nhalf");
        let mut follower = log.follow(From::Last(2));
        log.append(" line\n5\n");
        let items = collect(&mut follower, 4).await;
        assert_eq!(texts(&items), ["2", "3", "half line", "5"]);
        log.append("6\n");
        assert_eq!(texts(&collect(&mut follower, 1).await), ["6"]);
    }

    #[tokio::test]
    async fn resumes_after_exactly_the_named_line() {
        let log = Log::new();
        log.append("1\n2\n3\n");
        let items = collect(&mut log.follow(From::Last(3)), 3).await;
        for (at, item) in items.iter().enumerate() {
            let Item::Entry(entry) = item else {
                panic!("{item:?}")
            };
            let mut follower = log.follow(From::After(entry.cursor.parse().unwrap()));
            assert_eq!(follower.rest().unwrap(), items[at + 1..], "{at}");
        }
    }

    #[tokio::test]
    async fn a_renamed_file_is_read_to_its_end_before_the_new_one() {
        let log = Log::new();
        log.append("1\n");
        let mut follower = log.follow(From::Last(1));
        assert_eq!(texts(&collect(&mut follower, 1).await), ["1"]);
        let old = OpenOptions::new().append(true).open(&log.path).unwrap();
        std::fs::rename(&log.path, log.path.with_extension("1")).unwrap();
        (&old).write_all(b"2\n").unwrap();
        log.append("3\n");
        assert_eq!(texts(&collect(&mut follower, 2).await), ["2", "3"]);
        log.append("4\n");
        assert_eq!(texts(&collect(&mut follower, 1).await), ["4"]);
    }

    #[tokio::test]
    async fn an_empty_successor_is_waited_for_and_the_old_file_still_read() {
        let log = Log::new();
        log.append("1\n");
        let mut follower = log.follow(From::Last(1));
        collect(&mut follower, 1).await;
        let old = OpenOptions::new().append(true).open(&log.path).unwrap();
        std::fs::rename(&log.path, log.path.with_extension("1")).unwrap();
        log.append("");
        assert_eq!(follower.rest().unwrap(), []);
        // The writer has not been told yet, as with `create` of logrotate.
        (&old).write_all(b"2\n").unwrap();
        assert_eq!(texts(&collect(&mut follower, 1).await), ["2"]);
        log.append("3\n");
        assert_eq!(texts(&collect(&mut follower, 1).await), ["3"]);
        let filter = Filter {
            contains: Some("nothing has this".into()),
            ..Filter::default()
        };
        let mut follower = Follower::new(&log.watcher, From::Last(1), filter).unwrap();
        assert_eq!(follower.rest().unwrap(), []);
    }

    #[tokio::test]
    async fn what_is_gone_is_said_and_a_file_may_come_later() {
        let log = Log::new();
        let mut follower = log.follow(From::Last(5));
        log.append("1\n2\n");
        let items = collect(&mut follower, 2).await;
        let Item::Entry(second) = &items[1] else {
            panic!()
        };
        let cursor = second.cursor.parse().unwrap();
        std::fs::remove_file(&log.path).unwrap();
        log.append("new\n");
        let items = collect(&mut log.follow(From::After(cursor)), 2).await;
        assert_eq!(texts(&items), ["(gap)", "new"]);

        let mut follower = log.follow(From::Last(1));
        collect(&mut follower, 1).await;
        File::create(&log.path).unwrap();
        log.append("x\n");
        assert_eq!(texts(&collect(&mut follower, 2).await), ["(gap)", "x"]);
    }

    #[tokio::test]
    async fn a_long_line_is_cut_and_the_next_one_is_whole() {
        let log = Log::new();
        let long = "x".repeat(MAX_LINE_BYTES * 3);
        let mut follower = log.follow(From::Last(0));
        log.append(&format!("{long}\nnext\n"));
        let items = collect(&mut follower, 2).await;
        assert!(texts(&items)[0].ends_with("bytes shown]") && texts(&items)[1] == "next");
    }
}

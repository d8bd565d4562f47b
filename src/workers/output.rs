//! The output of a worker: each line is an event of the log.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read as _};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use tokio::sync::oneshot;

use crate::logs::in_bulk;
use crate::sys::is_hidden;

/// The longest line in the log, in bytes. The rest is cut.
const MAX_LINE_LEN: usize = 64 * 1024;
/// How much is read at once, in bytes.
const PIECE_LEN: usize = 64 * 1024;
/// How many lines are kept for messages.
const KEPT_LINES: usize = 20;
/// The longest line in a message, in characters.
const MAX_KEPT_LEN: usize = 500;
/// How long to wait for the lines that a worker has written before it exited.
const REST_TIMEOUT: Duration = Duration::from_secs(1);

/// The last lines of a worker.
#[derive(Debug, Default)]
pub struct LastLines(Mutex<VecDeque<String>>);

impl LastLines {
    fn push(&self, line: &str) {
        let is_cut = line.chars().nth(MAX_KEPT_LEN).is_some();
        let kept: String = line.chars().take(MAX_KEPT_LEN).collect();
        let mut kept = kept.replace(|c| is_hidden(c) && c != '\t', "\u{fffd}");
        if is_cut {
            kept.push('…');
        }
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() >= KEPT_LINES {
            lines.pop_front();
        }
        lines.push_back(kept);
    }

    /// The lines, oldest first.
    pub fn get(&self) -> Vec<String> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().cloned().collect()
    }
}

/// The thread that reads the output of one worker. It may wait for the disk, and then the worker
/// waits, too, and nobody else.
#[derive(Debug)]
pub struct OutputReader {
    /// Dropping it ends the thread once the pipe is empty: a descendant that nobody could kill may
    /// keep the pipe open.
    stop: PipeWriter,
    ended: oneshot::Receiver<()>,
}

impl OutputReader {
    /// Reads the output of the worker with this slot and PID.
    ///
    /// # Errors
    ///
    /// There is no thread or no descriptor left.
    pub fn start(pipe: OwnedFd, slot: u16, pid: u32, last: Arc<LastLines>) -> io::Result<Self> {
        let (stopped, stop) = io::pipe()?;
        let (end, ended) = oneshot::channel();
        // The worker's end has flags of its own.
        fcntl_setfl(&pipe, fcntl_getfl(&pipe)? | OFlags::NONBLOCK)?;
        let lines = Lines::new(move |line, cut| {
            let text = String::from_utf8_lossy(line);
            last.push(&text);
            let cut = (cut > 0).then_some(cut);
            in_bulk(|| tracing::info!(target: "app", worker = slot, pid, cut, "{text}"));
        });
        thread::Builder::new()
            .name("app-output".into())
            .spawn(move || {
                read(File::from(pipe), &stopped, lines);
                let _ = end.send(());
            })?;
        Ok(Self { stop, ended })
    }

    /// Returns once all lines are logged. The worker and its descendants have ended.
    pub async fn finish(self) {
        drop(self.stop);
        // The log may wait for the disk.
        let _ = tokio::time::timeout(REST_TIMEOUT, self.ended).await;
    }
}

/// Reads to the end.
fn read(mut pipe: File, stopped: &PipeReader, mut lines: Lines<impl FnMut(&[u8], usize)>) {
    let mut piece = vec![0; PIECE_LEN];
    loop {
        match pipe.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => lines.add(&piece[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut polled = [
                    PollFd::new(&pipe, PollFlags::IN),
                    PollFd::new(stopped, PollFlags::IN),
                ];
                // A failed call is tried again.
                let _ = poll(&mut polled, None);
                if polled[0].revents().is_empty() && !polled[1].revents().is_empty() {
                    break;
                }
            }
            Err(_) => break,
        }
    }
    lines.end();
}

/// Splits bytes into lines.
struct Lines<F> {
    unfinished: Vec<u8>,
    /// How much of the unfinished line was cut, in bytes.
    cut: usize,
    /// Receives a line, and how many bytes of it are missing at its end.
    emit: F,
}

impl<F: FnMut(&[u8], usize)> Lines<F> {
    fn new(emit: F) -> Self {
        Self {
            unfinished: Vec::new(),
            cut: 0,
            emit,
        }
    }

    fn add(&mut self, mut bytes: &[u8]) {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            let (line, rest) = bytes.split_at(end);
            if self.unfinished.is_empty() && line.len() <= MAX_LINE_LEN {
                (self.emit)(without_return(line), 0);
            } else {
                self.keep(line);
                self.emit_unfinished();
            }
            bytes = &rest[1..];
        }
        self.keep(bytes);
    }

    /// The last line may have no end.
    fn end(&mut self) {
        if !self.unfinished.is_empty() {
            self.emit_unfinished();
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let free = MAX_LINE_LEN - self.unfinished.len();
        let kept = bytes.len().min(free);
        self.unfinished.extend_from_slice(&bytes[..kept]);
        self.cut += bytes.len() - kept;
    }

    fn emit_unfinished(&mut self) {
        (self.emit)(without_return(&self.unfinished), self.cut);
        self.unfinished.clear();
        self.unfinished.shrink_to(1024);
        self.cut = 0;
    }
}

fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn lines_of(pieces: &[&[u8]]) -> Vec<(Vec<u8>, usize)> {
        let mut found = Vec::new();
        let mut lines = Lines::new(|line: &[u8], cut| found.push((line.to_vec(), cut)));
        for piece in pieces {
            lines.add(piece);
        }
        lines.end();
        found
    }

    #[test]
    fn lines_are_found_in_any_pieces() {
        let text = b"one\r\n\ntwo \xff\nthree";
        let expected: Vec<(Vec<u8>, usize)> = [&b"one"[..], b"", b"two \xff", b"three"]
            .map(|line| (line.to_vec(), 0))
            .into();
        for at in 0..text.len() {
            let (one, other) = text.split_at(at);
            assert_eq!(lines_of(&[one, other]), expected, "{at}");
        }
    }

    #[test]
    fn long_line_is_cut_and_counted() {
        let long = vec![b'x'; MAX_LINE_LEN];
        let whole = [&long[..], b"\nnext"].concat();
        assert_eq!(lines_of(&[&whole])[0], (long.clone(), 0));
        let found = lines_of(&[&long, &long, b"y", b"\nnext\n", &long, b"z"]);
        let cut = MAX_LINE_LEN + 1;
        let next = (b"next".to_vec(), 0);
        assert_eq!(found, [(long.clone(), cut), next, (long, 1)]);
    }

    #[test]
    fn last_lines_are_kept_for_messages() {
        let last = LastLines::default();
        for number in 0..KEPT_LINES {
            last.push(&number.to_string());
        }
        last.push("a\u{1b}[31m\tb");
        last.push(&"é".repeat(MAX_KEPT_LEN + 1));
        let lines = last.get();
        assert_eq!(lines.len(), KEPT_LINES);
        assert_eq!(lines[0], "2");
        assert_eq!(lines[KEPT_LINES - 2], "a\u{fffd}[31m\tb");
        assert_eq!(lines[KEPT_LINES - 1], "é".repeat(MAX_KEPT_LEN) + "…");
    }

    #[tokio::test]
    async fn reader_ends_although_the_pipe_stays_open() {
        let (pipe, mut writer) = io::pipe().unwrap();
        let last = Arc::<LastLines>::default();
        let reader = OutputReader::start(pipe.into(), 1, 1, Arc::clone(&last)).unwrap();
        writer.write_all(b"first\nlast").unwrap();
        reader.finish().await;
        assert_eq!(last.get(), ["first", "last"]);
    }
}

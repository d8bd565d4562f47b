//! One follower: what arrives becomes lines, and lines become events, each of which is due once and in order.

use anyhow::{Result, ensure};

use super::event::{Finders, TimeOfDay};
use super::http::Answer;
use super::tally::Tally;

pub struct Follower {
    /// Where the log arrives over HTTP.
    answer: Option<Answer>,
    lines: Lines,
}

#[derive(Default)]
struct Lines {
    /// A line whose end did not arrive yet.
    pending: Vec<u8>,
    /// The event that is due.
    next: u64,
    has_begun: bool,
}

impl Follower {
    pub fn over_http() -> Self {
        Self {
            answer: Some(Answer::new()),
            lines: Lines::default(),
        }
    }

    pub fn of_pipe() -> Self {
        Self {
            answer: None,
            lines: Lines::default(),
        }
    }

    /// Whether anything has arrived: it is connected.
    pub fn has_begun(&self) -> bool {
        self.lines.has_begun
    }

    /// Takes what has arrived by now.
    pub fn take(&mut self, bytes: &[u8], finders: &Finders, tally: &mut Tally) -> Result<()> {
        let now = TimeOfDay::now();
        let lines = &mut self.lines;
        let mut outcome = Ok(());
        let mut body = |piece: &[u8]| {
            if outcome.is_ok() {
                outcome = lines.take(piece, now, finders, tally);
            }
        };
        match &mut self.answer {
            Some(answer) => answer.take(bytes, body)?,
            None => body(bytes),
        }
        outcome
    }
}

impl Lines {
    fn take(
        &mut self,
        piece: &[u8],
        now: TimeOfDay,
        finders: &Finders,
        tally: &mut Tally,
    ) -> Result<()> {
        self.has_begun = true;
        let end = memchr::memrchr(b'\n', piece).map_or(0, |at| at + 1);
        let (complete, rest) = piece.split_at(end);
        if end > 0 {
            let mut pending = std::mem::take(&mut self.pending);
            let complete = if pending.is_empty() {
                complete
            } else {
                pending.extend_from_slice(complete);
                pending.as_slice()
            };
            let mut start = 0;
            for end in memchr::memchr_iter(b'\n', complete) {
                let line = &complete[start..end];
                start = end + 1;
                if let Some((number, time)) = finders.event(line) {
                    ensure!(
                        number == self.next,
                        "event {number} arrived where {} was due",
                        self.next
                    );
                    self.next += 1;
                    tally.add(number, now.since(time))?;
                }
            }
        }
        self.pending.extend_from_slice(rest);
        Ok(())
    }
}

//! One follower. Splits what arrives into lines, and checks that each event arrives once, in order.

use anyhow::{Result, ensure};

use super::event::{EventFinder, TimeOfDay};
use super::http::ResponseParser;
use super::tally::LatencyTally;

pub struct Follower {
    /// Set if the log arrives over HTTP.
    response: Option<ResponseParser>,
    lines: LineParser,
}

#[derive(Default)]
struct LineParser {
    /// The start of a line whose end has not arrived yet.
    pending: Vec<u8>,
    next_event: u64,
    has_received_data: bool,
}

impl Follower {
    pub fn http() -> Self {
        Self {
            response: Some(ResponseParser::new()),
            lines: LineParser::default(),
        }
    }

    pub fn pipe() -> Self {
        Self {
            response: None,
            lines: LineParser::default(),
        }
    }

    /// Whether the follower is connected.
    pub fn has_received_data(&self) -> bool {
        self.lines.has_received_data
    }

    /// Parses what has arrived.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        finders: &EventFinder,
        tally: &mut LatencyTally,
    ) -> Result<()> {
        let now = TimeOfDay::now();
        let lines = &mut self.lines;
        let mut outcome = Ok(());
        let mut body = |piece: &[u8]| {
            if outcome.is_ok() {
                outcome = lines.receive(piece, now, finders, tally);
            }
        };
        match &mut self.response {
            Some(answer) => answer.parse(bytes, body)?,
            None => body(bytes),
        }
        outcome
    }
}

impl LineParser {
    fn receive(
        &mut self,
        piece: &[u8],
        now: TimeOfDay,
        finders: &EventFinder,
        tally: &mut LatencyTally,
    ) -> Result<()> {
        self.has_received_data = true;
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
                if let Some((number, time)) = finders.find(line) {
                    ensure!(
                        number == self.next_event,
                        "event {number} arrived where {} was due",
                        self.next_event
                    );
                    self.next_event += 1;
                    tally.add(number, now.micros_since(time))?;
                }
            }
        }
        self.pending.extend_from_slice(rest);
        Ok(())
    }
}

//! What people and scripts see. With `--json`, stdout is for one JSON value and all else goes to stderr.

use std::io::{self, IsTerminal as _, Write as _};

use rustix::event::{PollFd, PollFlags, poll};
use serde::Serialize;
use serde_json::json;

use super::Failure;
use crate::config::{Problems, colour_wanted};

/// A colour of a terminal, as its SGR number.
#[derive(Debug, Clone, Copy)]
pub enum Colour {
    Red = 31,
    Green = 32,
    Yellow = 33,
    Blue = 34,
    Grey = 90,
}

/// Something to know beside the result.
pub fn notice(text: &str) {
    // Without stderr nobody wants to know.
    let _ = writeln!(io::stderr(), "fullon: {text}");
}

fn unless_closed(written: io::Result<()>) -> Result<(), Failure> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// A line of many: when nobody reads them any more, there is nothing left to do.
pub fn line_of_many(text: &str) -> Result<(), Failure> {
    Ok(writeln!(io::stdout(), "{text}")?)
}

/// Returns once nobody can read stdout any more, as when `head` has seen enough.
pub async fn stdout_closed() {
    let (closed, waiting) = tokio::sync::oneshot::channel();
    // Its own thread: one of the runtime's would be waited for at the end.
    std::thread::spawn(move || {
        // Asked for nothing, it tells errors and the end.
        let outcome = poll(&mut [PollFd::new(&io::stdout(), PollFlags::empty())], None);
        if outcome.is_ok() {
            let _ = closed.send(());
        }
    });
    if waiting.await.is_err() {
        // It cannot be told; the next line will.
        std::future::pending::<()>().await;
    }
}

/// Without what a terminal would obey: what a client could choose must not move the cursor, set the window's title, or turn the
/// line around. In a pipe too, which most often ends at a terminal.
pub fn visible(line: &str) -> String {
    anstream::adapter::strip_str(line)
        .to_string()
        .chars()
        .map(|c| match c {
            '\t' => c,
            // Those that embed, override or isolate a direction (UAX #9).
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// stdout and stderr of the verb.
pub struct Output {
    json: bool,
    colour: bool,
}

impl Output {
    pub fn new(json: bool) -> Self {
        let is_terminal = io::stdout().is_terminal();
        Self {
            json,
            colour: is_terminal && colour_wanted(),
        }
    }

    pub fn is_json(&self) -> bool {
        self.json
    }

    /// A line for people; none with `--json`. That nobody reads it changes nothing of what was done.
    pub fn line(&self, text: &str) -> Result<(), Failure> {
        if self.json {
            return Ok(());
        }
        unless_closed(writeln!(io::stdout(), "{text}"))
    }

    /// A line for people that begins with a symbol where symbols can be shown.
    pub fn outcome(&self, symbol: &str, colour: Colour, text: &str) -> Result<(), Failure> {
        if self.colour {
            self.line(&format!("{} {text}", self.paint(colour, symbol)))
        } else {
            self.line(text)
        }
    }

    /// The JSON value, when it was asked for.
    pub fn value(&self, value: &impl Serialize) -> Result<(), Failure> {
        if self.json {
            let text = serde_json::to_string(value).map_err(io::Error::from)?;
            return unless_closed(writeln!(io::stdout(), "{text}"));
        }
        Ok(())
    }

    /// Why the verb failed.
    pub fn error(&self, text: &str) {
        notice(text);
        let _ = self.value(&json!({ "error": text }));
    }

    /// What is wrong with the configuration.
    pub fn problems(&self, problems: &Problems) {
        notice(&problems.to_string());
        let list: Vec<_> = problems
            .0
            .iter()
            .map(|problem| json!({ "setting": problem.setting, "message": problem.message }))
            .collect();
        let _ = self.value(&json!({ "error": "invalid configuration", "problems": list }));
    }

    /// The text in a colour, where colours can be shown.
    pub fn paint(&self, colour: Colour, text: &str) -> String {
        if self.colour {
            format!("\x1b[{}m{text}\x1b[0m", colour as u8)
        } else {
            text.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_not_shown() {
        assert_eq!(
            visible("a\x1b[31mb\u{202e}c\u{7}d\te\u{9b}2J \u{5e9}\u{5dc}\u{5d5}\u{5dd}"),
            "ab\u{fffd}cd\te\u{fffd}2J \u{5e9}\u{5dc}\u{5d5}\u{5dd}"
        );
    }
}

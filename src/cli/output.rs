//! The output of commands. With `--json`, stdout has one JSON value and everything else goes to
//! stderr.

use std::io::{self, IsTerminal as _, Write as _};

use rustix::event::{PollFd, PollFlags, poll};
use serde::Serialize;
use serde_json::json;

use super::error::CommandError;
use crate::config::{InvalidSettings, is_colour_wanted};
use crate::identity::identity;

/// A terminal colour, as its SGR number.
#[derive(Debug, Clone, Copy)]
pub enum Colour {
    Red = 31,
    Green = 32,
    Yellow = 33,
    Blue = 34,
    Grey = 90,
}

/// Prints a message beside the result.
pub fn notice(text: &str) {
    // If stderr is closed, nobody reads the message.
    let _ = writeln!(io::stderr(), "{}: {text}", identity().command);
}

fn ignore_broken_pipe(written: io::Result<()>) -> Result<(), CommandError> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Waits until the reader has closed stdout, such as `head` after its last line.
pub async fn stdout_closed() {
    let (closed, waiting) = tokio::sync::oneshot::channel();
    // Not a thread of the runtime, which would wait for it at the end.
    std::thread::spawn(move || {
        // Without requested events, `poll` returns only for errors and a closed pipe.
        let outcome = poll(&mut [PollFd::new(&io::stdout(), PollFlags::empty())], None);
        if outcome.is_ok() {
            let _ = closed.send(());
        }
    });
    if waiting.await.is_err() {
        // `poll` failed. Printing the next line will fail instead.
        std::future::pending::<()>().await;
    }
}

/// Replaces control sequences of terminals: text from a client must not move the cursor, set the
/// window's title, or reverse the line. Also in a pipe, which often ends at a terminal.
pub fn sanitize(line: &str) -> String {
    anstream::adapter::strip_str(line)
        .to_string()
        .chars()
        .map(|c| match c {
            '\t' => c,
            // Embedding, override and isolation of a direction (UAX #9).
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// stdout and stderr of a command.
pub struct Output {
    json: bool,
    colour: bool,
}

impl Output {
    pub fn new(json: bool) -> Self {
        let is_terminal = io::stdout().is_terminal();
        Self {
            json,
            colour: is_terminal && is_colour_wanted(),
        }
    }

    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Prints a line for people, but not with `--json`. A closed stdout is no error: the command has
    /// done its work.
    pub fn print_line(&self, text: &str) -> Result<(), CommandError> {
        if self.json {
            return Ok(());
        }
        ignore_broken_pipe(writeln!(io::stdout(), "{text}"))
    }

    /// Prints a line for people that the command has succeeded.
    pub fn print_success(&self, text: &str) -> Result<(), CommandError> {
        self.print_result("✓", Colour::Green, text)
    }

    /// Prints a line for people. On a terminal it begins with a symbol.
    pub fn print_result(
        &self,
        symbol: &str,
        colour: Colour,
        text: &str,
    ) -> Result<(), CommandError> {
        if self.colour {
            self.print_line(&format!("{} {text}", self.paint(colour, symbol)))
        } else {
            self.print_line(text)
        }
    }

    /// Prints the JSON value with `--json`.
    pub fn print_json(&self, value: &impl Serialize) -> Result<(), CommandError> {
        if self.json {
            let text = serde_json::to_string(value).map_err(io::Error::from)?;
            return ignore_broken_pipe(writeln!(io::stdout(), "{text}"));
        }
        Ok(())
    }

    pub fn print_error(&self, text: &str) {
        notice(text);
        let _ = self.print_json(&json!({ "error": text }));
    }

    pub fn print_problems(&self, problems: &InvalidSettings) {
        notice(&problems.to_string());
        let list: Vec<_> = problems
            .0
            .iter()
            .map(|problem| json!({ "setting": problem.setting, "message": problem.message }))
            .collect();
        let _ = self.print_json(&json!({ "error": "invalid configuration", "problems": list }));
    }

    /// Colours the text on a terminal.
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
    fn terminal_control_characters_are_replaced() {
        assert_eq!(
            sanitize("a\x1b[31mb\u{202e}c\u{7}d\te\u{9b}2J \u{5e9}\u{5dc}\u{5d5}\u{5dd}"),
            "ab\u{fffd}cd\te\u{fffd}2J \u{5e9}\u{5dc}\u{5d5}\u{5dd}"
        );
    }
}

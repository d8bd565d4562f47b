//! What people and scripts see. With `--json`, stdout is for one JSON value and all else goes to stderr.

use std::io::{self, IsTerminal as _, Write as _};

use rustix::event::{PollFd, PollFlags, poll};
use serde::Serialize;
use serde_json::json;

use super::CommandError;
use crate::config::{InvalidSettings, is_colour_wanted};

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

fn ignore_broken_pipe(written: io::Result<()>) -> Result<(), CommandError> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// A line of many: when nobody reads them any more, there is nothing left to do.
pub fn print_line_or_stop(text: &str) -> Result<(), CommandError> {
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
pub fn sanitize(line: &str) -> String {
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
            colour: is_terminal && is_colour_wanted(),
        }
    }

    pub fn is_json(&self) -> bool {
        self.json
    }

    /// A line for people; none with `--json`. That nobody reads it changes nothing of what was done.
    pub fn print_line(&self, text: &str) -> Result<(), CommandError> {
        if self.json {
            return Ok(());
        }
        ignore_broken_pipe(writeln!(io::stdout(), "{text}"))
    }

    /// A line for people that begins with a symbol where symbols can be shown.
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

    /// The JSON value, when it was asked for.
    pub fn print_json(&self, value: &impl Serialize) -> Result<(), CommandError> {
        if self.json {
            let text = serde_json::to_string(value).map_err(io::Error::from)?;
            return ignore_broken_pipe(writeln!(io::stdout(), "{text}"));
        }
        Ok(())
    }

    /// Why the verb failed.
    pub fn print_error(&self, text: &str) {
        notice(text);
        let _ = self.print_json(&json!({ "error": text }));
    }

    /// What is wrong with the configuration.
    pub fn print_problems(&self, problems: &InvalidSettings) {
        notice(&problems.to_string());
        let list: Vec<_> = problems
            .0
            .iter()
            .map(|problem| json!({ "setting": problem.setting, "message": problem.message }))
            .collect();
        let _ = self.print_json(&json!({ "error": "invalid configuration", "problems": list }));
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
    fn terminal_control_characters_are_replaced() {
        assert_eq!(
            sanitize("a\x1b[31mb\u{202e}c\u{7}d\te\u{9b}2J \u{5e9}\u{5dc}\u{5d5}\u{5dd}"),
            "ab\u{fffd}cd\te\u{fffd}2J \u{5e9}\u{5dc}\u{5d5}\u{5dd}"
        );
    }
}

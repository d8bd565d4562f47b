//! The output of commands. With `--json`, stdout has one JSON value and everything else goes to
//! stderr.

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;

use rustix::event::{PollFd, PollFlags, poll};
use serde::Serialize;
use serde_json::json;

use super::error::CommandError;
use crate::api::LogEntry;
use crate::config::{InvalidSettings, is_colour_wanted, is_journal};
use crate::identity::identity;
use crate::sys::{is_hidden, json_escape};

/// A terminal colour, as its SGR number.
#[derive(Debug, Clone, Copy)]
pub enum Colour {
    Red = 31,
    Green = 32,
    Yellow = 33,
    Blue = 34,
    Grey = 90,
}

/// A part of a line.
pub struct Span<'a> {
    colour: Option<Colour>,
    text: &'a str,
}

impl<'a> Span<'a> {
    pub fn plain(text: &'a str) -> Self {
        Self { colour: None, text }
    }

    /// Has this colour on a terminal.
    pub fn coloured(colour: Colour, text: &'a str) -> Self {
        Self {
            colour: Some(colour),
            text,
        }
    }
}

/// The prefixes of an error and a warning in systemd's journal (`sd-daemon(3)`).
const ERROR_PRIORITY: &str = "<3>";
const WARNING_PRIORITY: &str = "<4>";

/// Prints a message beside the result. Further lines of the message are indented, so that a server
/// cannot make up messages of its own.
pub fn notice(text: &str) {
    print_message(text, "");
}

/// Prints a warning beside the result.
pub fn print_warning(text: &impl fmt::Display) {
    print_message(&format!("warning: {text}"), WARNING_PRIORITY);
}

/// Prints a message. In systemd's journal each line has this priority.
fn print_message(text: &str, priority: &str) {
    let lines: Vec<_> = text.lines().map(sanitize).collect();
    let mut text = format!("{}: ", identity().command);
    for (index, line) in lines.iter().enumerate() {
        if index > 0 {
            text.push_str(if line.starts_with("  ") { "\n" } else { "\n  " });
        }
        text.push_str(line);
    }
    if !priority.is_empty() && is_journal(io::stderr().as_fd()) {
        text = text.replace('\n', &format!("\n{priority}"));
        text.insert_str(0, priority);
    }
    // If stderr is closed, nobody reads the message.
    let _ = writeln!(io::stderr(), "{text}");
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

/// Replaces control characters of terminals, and invisible ones: text from outside must not move the cursor, set the
/// window's title, or reverse the line. Also in a pipe, which often ends at a terminal. Everything
/// that is printed passes through here, or through [`escape_json`].
fn sanitize(line: &str) -> String {
    let replace = |c: char| match c {
        '\t' => c,
        c if is_hidden(c) => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    let stripped = anstream::adapter::strip_str(line).to_string();
    stripped.chars().map(replace).collect()
}

/// Escapes the control characters that JSON allows in strings.
fn escape_json(json: &str) -> String {
    if !json.chars().any(is_hidden) {
        return json.to_owned();
    }
    json.chars()
        .map(|c| match c {
            c if is_hidden(c) => json_escape(c),
            c => c.to_string(),
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
        self.print_spans(&[Span::plain(text)])
    }

    /// Prints a line for people, but not with `--json`.
    pub fn print_spans(&self, spans: &[Span<'_>]) -> Result<(), CommandError> {
        if self.json {
            return Ok(());
        }
        let line: String = spans.iter().map(|span| self.paint(span)).collect();
        ignore_broken_pipe(writeln!(io::stdout(), "{line}"))
    }

    /// Prints an entry of a log. If the reader has closed stdout, the command ends.
    pub fn print_entry(&self, entry: &LogEntry, colour: Colour) -> Result<(), CommandError> {
        let text = if self.json {
            escape_json(&serde_json::to_string(entry).map_err(io::Error::from)?)
        } else {
            let level = entry.level.as_deref().unwrap_or_default();
            match entry.line.split_once(level).filter(|_| !level.is_empty()) {
                None => sanitize(&entry.line),
                Some((before, after)) => {
                    let level = Span::coloured(colour, level);
                    let spans = [Span::plain(before), level, Span::plain(after)];
                    spans.iter().map(|span| self.paint(span)).collect()
                }
            }
        };
        Ok(writeln!(io::stdout(), "{text}")?)
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
            self.print_spans(&[
                Span::coloured(colour, symbol),
                Span::plain(" "),
                Span::plain(text),
            ])
        } else {
            self.print_line(text)
        }
    }

    /// Prints the JSON value with `--json`.
    pub fn print_json(&self, value: &impl Serialize) -> Result<(), CommandError> {
        if self.json {
            let text = escape_json(&serde_json::to_string(value).map_err(io::Error::from)?);
            return ignore_broken_pipe(writeln!(io::stdout(), "{text}"));
        }
        Ok(())
    }

    pub fn print_error(&self, text: &str) {
        print_message(text, ERROR_PRIORITY);
        let _ = self.print_json(&json!({ "error": text }));
    }

    pub fn print_problems(&self, problems: &InvalidSettings) {
        print_message(&problems.to_string(), ERROR_PRIORITY);
        let list: Vec<_> = problems
            .0
            .iter()
            .map(|problem| json!({ "setting": problem.setting, "message": problem.message }))
            .collect();
        let _ = self.print_json(&json!({ "error": "invalid configuration", "problems": list }));
    }

    fn paint(&self, span: &Span<'_>) -> String {
        let text = sanitize(span.text);
        match span.colour.filter(|_| self.colour) {
            Some(colour) => format!("\x1b[{}m{text}\x1b[0m", colour as u8),
            None => text,
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

    #[test]
    fn json_has_no_control_characters_of_terminals() {
        let text = "a\u{1b}\u{7f}\u{9b}\u{202e}\u{200f}\n";
        let json = escape_json(&serde_json::to_string(text).unwrap());
        assert_eq!(json, r#""a\u001b\u007f\u009b\u202e\u200f\n""#);
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }
}

//! Formatting of events: one event is one line, whatever it contains.

use std::fmt;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::format::{Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

use crate::config::LogFormat;
use crate::sys::{is_hidden, json_escape};

/// How the log is written to stdout.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StdoutOptions {
    /// Whether to use escape sequences for colours.
    pub colour: bool,
    /// Whether each line begins with its priority, for systemd's journal (`sd-daemon(3)`).
    pub priorities: bool,
}

/// A layer that passes each event as one line to `writer`.
pub(crate) fn format_layer<S, W>(
    format: LogFormat,
    StdoutOptions { colour, priorities }: StdoutOptions,
    writer: W,
) -> Box<dyn Layer<S> + Send + Sync>
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_ansi(colour);
    match format {
        LogFormat::Text => layer
            .event_format(SingleLine {
                format: Format::default().with_ansi(colour),
                escape: if colour { escape_in_colour } else { escape },
                priorities,
            })
            .boxed(),
        LogFormat::Json => layer
            .json()
            .event_format(SingleLine {
                format: Format::default().json().flatten_event(true),
                escape: escape_in_json,
                priorities,
            })
            .boxed(),
    }
}

/// Formats an error of the log itself. An event would come back to the log that failed.
pub(crate) fn format_own_line(format: LogFormat, target: &str, message: &str) -> String {
    let now = jiff::Timestamp::now();
    match format {
        LogFormat::Text => format!("{now} ERROR {target}: {message}\n"),
        LogFormat::Json => {
            let event = serde_json::json!({
                "timestamp": now.to_string(),
                "level": "ERROR",
                "message": message,
                "target": target,
            });
            format!("{event}\n")
        }
    }
}

/// Escapes hidden characters in events of another format: line breaks would make several lines,
/// and a terminal that shows the line would interpret the others.
struct SingleLine<F> {
    format: F,
    /// Returns the escape sequence of a character that must not be written.
    escape: fn(char) -> Option<String>,
    /// See [`StdoutOptions::priorities`].
    priorities: bool,
}

/// The prefix by which systemd's journal knows the priority of a line (`sd-daemon(3)`).
pub(crate) fn priority_prefix(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        Level::DEBUG | Level::TRACE => "<7>",
    }
}

fn escape(c: char) -> Option<String> {
    match c {
        '\t' => None,
        '\n' | '\r' => Some(c.escape_default().to_string()),
        c if is_hidden(c) => Some(c.escape_unicode().to_string()),
        _ => None,
    }
}

/// The sequences of the colours begin with ESC. tracing-subscriber escapes it in messages.
fn escape_in_colour(c: char) -> Option<String> {
    (c != '\u{1b}').then(|| escape(c)).flatten()
}

/// JSON has escaped the others.
fn escape_in_json(c: char) -> Option<String> {
    (c != '\n' && is_hidden(c)).then(|| json_escape(c))
}

impl<S, N, F> FormatEvent<S, N> for SingleLine<F>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut text = String::with_capacity(256);
        self.format
            .format_event(context, Writer::new(&mut text), event)?;
        if self.priorities {
            writer.write_str(priority_prefix(*event.metadata().level()))?;
        }
        let line = text.trim_end_matches('\n');
        let mut written = 0;
        for (index, c) in line.char_indices() {
            if let Some(escaped) = (self.escape)(c) {
                writer.write_str(&line[written..index])?;
                writer.write_str(&escaped)?;
                written = index + c.len_utf8();
            }
        }
        writer.write_str(&line[written..])?;
        writer.write_char('\n')
    }
}

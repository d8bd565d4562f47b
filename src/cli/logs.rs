//! `fullon logs`

use std::pin::pin;

use super::context::{CommandContext, block_on};
use super::error::{CommandError, Result};
use super::flags::suggest;
use super::output::{Colour, Output, notice, stdout_closed};
use crate::api::LogEntry;
use crate::client::LogQuery;
use crate::control::{LogLine, LogsError};

#[derive(Debug, clap::Args)]
pub struct LogsArgs {
    /// Number of last lines to print first, 0 to 10000
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(0..=10_000))]
    lines: u16,
    /// Exit after the last line instead of waiting for new lines
    #[arg(long)]
    no_follow: bool,
    /// Print only lines of this level or a more severe one
    #[arg(long, value_name = "LEVEL", value_parser = suggest(&["error", "warn", "info", "debug", "trace"]))]
    level: Option<String>,
    /// Print only lines that contain TEXT
    #[arg(long, value_name = "TEXT")]
    contains: Option<String>,
    /// Print only lines since WHEN: an RFC 3339 timestamp, or an age such as 10m
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
}

pub fn run(context: &CommandContext, arguments: LogsArgs, output: &Output) -> Result {
    let control = context.control()?;
    let query = LogQuery {
        lines: arguments.lines.into(),
        level: arguments.level,
        contains: arguments.contains,
        since: arguments.since,
        ..LogQuery::default()
    };
    block_on(async {
        if arguments.no_follow {
            let entries = control.last_lines(&query, &mut notice).await;
            for entry in entries.map_err(command_error)? {
                print(&entry, output)?;
            }
            return Ok(());
        }
        let lines = control.follow_log(&query, &mut notice).await;
        let mut lines = lines.map_err(command_error)?;
        let mut closed = pin!(stdout_closed());
        loop {
            let mut notice = notice;
            let line = tokio::select! {
                biased;
                line = lines.next(&mut notice) => line.map_err(command_error)?,
                () = &mut closed => return Ok(()),
            };
            match line {
                Some(LogLine::Entry(entry)) => print(&entry, output)?,
                Some(LogLine::Gap) => notice("some lines are missing here"),
                None => {
                    notice("end of the log: the daemon is not running");
                    return Ok(());
                }
            }
        }
    })?
}

fn command_error(error: LogsError) -> CommandError {
    match error {
        LogsError::Filter(error) => CommandError::Usage(error.to_string()),
        other => CommandError::Other(other.into()),
    }
}

/// Prints an entry. If the reader has closed stdout, the command ends.
fn print(entry: &LogEntry, output: &Output) -> Result {
    let colour = match entry.level.as_deref() {
        Some("ERROR") => Colour::Red,
        Some("WARN") => Colour::Yellow,
        Some("INFO") => Colour::Green,
        Some("DEBUG") => Colour::Blue,
        _ => Colour::Grey,
    };
    output.print_entry(entry, colour)
}

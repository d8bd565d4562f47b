//! `fullon audit`

use std::borrow::Cow;
use std::fmt::Write as _;

use serde_json::Value;

use super::context::{CommandContext, block_on};
use super::error::{CommandError, Result};
use super::output::{Colour, Output, Span, notice};
use crate::api::AuditEntry;
use crate::audit::{Head, Report};
use crate::control::{AuditError, VerifiedAudit};
use crate::sys::is_hidden;

#[derive(Debug, clap::Args)]
pub struct AuditArgs {
    /// Number of last records to print, 1 to 10000
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    lines: u16,
    /// Check that no record was changed, removed or added
    #[arg(long, conflicts_with = "lines")]
    verify: bool,
    /// Check that the trail contains this record: its number and its hash, as --verify prints them
    #[arg(long, value_name = "SEQ:HASH", requires = "verify")]
    head: Option<Head>,
}

pub fn run(context: &CommandContext, arguments: &AuditArgs, output: &Output) -> Result {
    let control = context.control()?;
    if arguments.verify {
        let verified = block_on(control.verify_audit(arguments.head.as_ref()))?;
        let VerifiedAudit { report, not_asked } = verified.map_err(command_error)?;
        if let Some(error) = &not_asked {
            notice(&format!(
                "the end of the trail is not compared with the running daemon: {error}"
            ));
        }
        return print_report(&report, not_asked.is_none(), output);
    }
    let records = block_on(control.audit_records(arguments.lines.into()))?;
    for record in records.map_err(command_error)? {
        print_record(&record, output)?;
        output.print_json(&record)?;
    }
    Ok(())
}

fn command_error(error: AuditError) -> CommandError {
    match error {
        AuditError::NotHere => CommandError::Usage(error.to_string()),
        other => CommandError::Other(other.into()),
    }
}

fn print_record(record: &AuditEntry, output: &Output) -> Result {
    let colour = match &*record.outcome {
        "accepted" => Colour::Green,
        "refused" => Colour::Yellow,
        _ => Colour::Red,
    };
    let start = format!(
        "{} {} {} ",
        record.seq,
        shown(&record.time),
        shown(&record.event)
    );
    let mut line = String::new();
    let mut add = |name: &str, value: &dyn std::fmt::Display| {
        let _ = write!(line, " {name}={value}");
    };
    let texts = [
        ("subject", &record.subject),
        ("token_id", &record.token_id),
        ("session_id", &record.session_id),
        ("peer", &record.peer),
        ("client", &record.client),
        ("request_id", &record.request_id),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            add(name, &shown(text));
        }
    }
    if let Some(status) = record.status {
        add("status", &status);
    }
    let detail = record.detail.as_ref().and_then(Value::as_object);
    for (name, value) in detail.into_iter().flatten() {
        match value {
            Value::String(text) => add(name, &shown(text)),
            value => add(name, value),
        }
    }
    if let Some(reason) = &record.reason {
        add("reason", &quoted(reason));
    }
    output.print_spans(&[
        Span::plain(&start),
        Span::coloured(colour, &record.outcome),
        Span::plain(&line),
    ])
}

/// The text, quoted if it could be taken for several fields, or has hidden characters, which are
/// escaped.
fn shown(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| {
        c.is_alphanumeric() && !is_hidden(c) || c.is_ascii_graphic() && !"\"\\=".contains(c)
    };
    if !text.is_empty() && text.chars().all(is_plain) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(quoted(text))
    }
}

fn quoted(text: &str) -> String {
    let escaped = text.chars().map(|c| match c {
        '\'' => c.to_string(),
        '\t' | '\r' | '\n' => c.escape_debug().to_string(),
        c if is_hidden(c) => c.escape_unicode().to_string(),
        c => c.escape_debug().to_string(),
    });
    format!("\"{}\"", escaped.collect::<String>())
}

/// `is_whole`: no running daemon has written more records than were read, as far as that is known.
fn print_report(report: &Report, is_whole: bool, output: &Output) -> Result {
    for ignored in &report.ignored {
        output.print_line(&ignored.to_string())?;
    }
    for place in report.torn.iter().chain(&report.gaps) {
        output.print_line(&format!("{}:{}: {}", place.file, place.line, place.message))?;
    }
    for place in &report.problems {
        let text = format!("{}:{}: {}", place.file, place.line, place.message);
        output.print_spans(&[Span::coloured(Colour::Red, &text)])?;
    }
    let range = match (report.first_seq, report.last_seq) {
        (Some(first), Some(last)) => {
            let rotated = if first > 1 && report.intact {
                "; older ones were rotated away"
            } else {
                ""
            };
            let plural = if report.records == 1 { "" } else { "s" };
            format!(
                "{} record{plural}, {first} to {last}{rotated}",
                report.records
            )
        }
        _ => "no records".to_owned(),
    };
    if report.intact {
        let verdict = if is_whole {
            "Intact"
        } else {
            "Intact, except for the end, which was not compared"
        };
        output.print_success(&format!("{verdict}: {range}"))?;
        if let (Some(seq), Some(hash)) = (report.last_seq, &report.last_hash) {
            output.print_line(&format!("  head {seq}:{hash}"))?;
        }
        return output.print_json(report);
    }
    output.print_result("✗", Colour::Red, &format!("Broken: {range}"))?;
    output.print_json(report)?;
    Err(CommandError::Exit(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_letters_of_a_subject_show() {
        assert_eq!(shown("한가"), "한가");
        assert_eq!(shown("root\u{3164}"), r#""root\u{3164}""#);
        assert_eq!(shown("it's\n"), r#""it's\n""#);
    }
}

//! `fullon doctor`

use serde_json::json;

use super::output::{Colour, Output};
use super::{CommandContext, CommandError, Result, block_on, user_name};
use crate::control::{Diagnosis, Finding, Severity, diagnose};

pub fn run(context: &CommandContext, output: &Output) -> Result {
    let sources = context.origin.read_sources();
    let admin_url = context.admin_url.as_deref();
    let examination = block_on(diagnose(&sources, admin_url, &user_name()))?
        .map_err(|error| CommandError::Usage(error.to_string()))?;
    let (wrong, warnings) = (
        examination.count(Severity::Error),
        examination.count(Severity::Warning),
    );
    print(&examination, output)?;
    output.print_line(&summary(examination.findings.len(), wrong, warnings))?;
    output.print_json(&json!({
        "healthy": wrong == 0,
        "wrong": wrong,
        "warnings": warnings,
        "configuration_is_valid": examination.configuration_is_valid,
        "findings": examination.findings,
    }))?;
    match (examination.configuration_is_valid, wrong) {
        (false, _) => Err(CommandError::Exit(2)),
        (true, 0) => Ok(()),
        (true, _) => Err(CommandError::Exit(1)),
    }
}

fn print(examination: &Diagnosis, output: &Output) -> Result {
    let subjects = examination.findings.iter().map(|it| it.subject.len());
    let width = subjects.max().unwrap_or(0);
    examination.findings.iter().try_for_each(|finding| {
        let (word, colour) = match finding.verdict {
            Severity::Ok => ("ok", Colour::Green),
            Severity::Warning => ("warning", Colour::Yellow),
            Severity::Error => ("WRONG", Colour::Red),
        };
        let word = output.paint(colour, &format!("{word:<7}"));
        output.print_line(&format!(
            "{word}  {:<width$}  {}",
            finding.subject,
            text(finding)
        ))
    })
}

/// What was seen, and the next step, on one line: processes and servers choose their own words, and some are not for a
/// terminal.
fn text(finding: &Finding) -> String {
    let next = finding
        .next
        .as_ref()
        .map_or(String::new(), |next| format!(" -> {next}"));
    format!("{}{next}", finding.seen).replace(char::is_control, " ")
}

fn summary(looked_at: usize, wrong: usize, warnings: usize) -> String {
    let warnings = match warnings {
        0 => String::new(),
        1 => ", 1 warning".into(),
        many => format!(", {many} warnings"),
    };
    let wrong = match wrong {
        0 => "nothing is wrong".into(),
        1 => "1 thing is wrong".into(),
        many => format!("{many} things are wrong"),
    };
    format!("{looked_at} findings: {wrong}{warnings}")
}

//! `fullon doctor`

use serde_json::json;

use super::context::{CommandContext, block_on, user_name};
use super::error::{CommandError, Result};
use super::output::{Colour, Output, Span};
use crate::doctor::{Finding, Severity, diagnose};

pub fn run(context: &CommandContext, output: &Output) -> Result {
    let sources = context.location.read_sources();
    let admin_url = context.admin_url.as_deref();
    let diagnosis = block_on(diagnose(&sources, admin_url, &user_name()))?
        .map_err(|error| CommandError::Usage(error.to_string()))?;
    let errors = diagnosis.count(Severity::Error);
    let warnings = diagnosis.count(Severity::Warning);
    print_findings(&diagnosis.findings, output)?;
    output.print_line(&summary(diagnosis.findings.len(), errors, warnings))?;
    output.print_json(&json!({
        "healthy": errors == 0,
        "errors": errors,
        "warnings": warnings,
        "configuration_is_valid": diagnosis.configuration_is_valid,
        "findings": diagnosis.findings,
    }))?;
    match (diagnosis.configuration_is_valid, errors) {
        (false, _) => Err(CommandError::Exit(2)),
        (true, 0) => Ok(()),
        (true, _) => Err(CommandError::Exit(1)),
    }
}

fn print_findings(findings: &[Finding], output: &Output) -> Result {
    let subjects = findings.iter().map(|finding| finding.subject.len());
    let width = subjects.max().unwrap_or(0);
    findings.iter().try_for_each(|finding| {
        let (severity, colour) = match finding.severity {
            Severity::Ok => ("ok", Colour::Green),
            Severity::Warning => ("warning", Colour::Yellow),
            Severity::Error => ("ERROR", Colour::Red),
        };
        output.print_spans(&[
            Span::coloured(colour, &format!("{severity:<7}")),
            Span::plain(&format!("  {:<width$}  ", finding.subject)),
            Span::plain(&one_line(finding)),
        ])
    })
}

/// The message and the hint on one line.
fn one_line(finding: &Finding) -> String {
    let hint = finding
        .hint
        .as_ref()
        .map_or(String::new(), |hint| format!(" -> {hint}"));
    format!("{}{hint}", finding.message).replace('\n', " ")
}

fn summary(findings: usize, errors: usize, warnings: usize) -> String {
    let warnings = match warnings {
        0 => String::new(),
        1 => ", 1 warning".into(),
        many => format!(", {many} warnings"),
    };
    let errors = match errors {
        0 => "no errors".into(),
        1 => "1 error".into(),
        many => format!("{many} errors"),
    };
    format!("{findings} findings: {errors}{warnings}")
}

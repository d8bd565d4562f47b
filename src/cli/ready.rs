//! `fullon status --ready`

use serde_json::json;

use super::context::{CommandContext, block_on};
use super::error::{CommandError, Result};
use super::output::{Colour, Output};
use crate::api::{DaemonPhase, HealthCheck, HealthCheckState, ReadinessReport};
use crate::config::BestEffortSettings;
use crate::control::ReadyReport;

pub fn run(context: &CommandContext, output: &Output) -> Result {
    if context.admin_url.is_some() {
        return Err(CommandError::Usage(
            "--ready checks the public API of the local daemon and cannot be used with --admin-url; on another machine, check /health/ready there".into(),
        ));
    }
    let public = BestEffortSettings::load(&context.location.read_sources()).public;
    let report = block_on(context.control()?.ready(public))?;
    let (readiness, reason) = match report {
        Ok(ReadyReport::Answered(readiness)) => {
            let reason = reason_for(&readiness);
            (Some(readiness), reason)
        }
        Ok(ReadyReport::Unreachable { server, error }) => (
            None,
            Some(format!("the public API at {server} failed: {error}")),
        ),
        Ok(ReadyReport::UnknownAddress) => {
            (None, Some("the public port is unknown (PORT=0)".into()))
        }
        Ok(ReadyReport::Dead) => (None, Some("dead".into())),
        Ok(ReadyReport::NotRunning) => (None, Some("not running".into())),
        Err(error) => (None, Some(error.to_string())),
    };
    match &reason {
        None => output.print_success("Ready")?,
        Some(reason) => {
            output.print_result("✗", Colour::Red, &format!("Not ready: {reason}"))?;
        }
    }
    output.print_json(&json!({
        "ready": reason.is_none(),
        "reason": reason,
        "phase": readiness.as_ref().map(|readiness| readiness.phase),
        "checks": readiness.as_ref().map(|readiness| &readiness.checks),
    }))?;
    match reason {
        None => Ok(()),
        Some(_) => Err(CommandError::Exit(1)),
    }
}

/// Why the daemon is not ready; `None` if it is.
fn reason_for(readiness: &ReadinessReport) -> Option<String> {
    if readiness.ready {
        return None;
    }
    let phase = match readiness.phase {
        DaemonPhase::Starting => Some("starting".to_owned()),
        DaemonPhase::Draining => Some("draining".to_owned()),
        DaemonPhase::Ready => None,
    };
    let checks = readiness.checks.iter().filter_map(describe_check);
    let reasons: Vec<_> = phase.into_iter().chain(checks).collect();
    Some(if reasons.is_empty() {
        "GET /health/ready did not return 200".into()
    } else {
        reasons.join("; ")
    })
}

/// The state of a check that is not up.
fn describe_check(check: &HealthCheck) -> Option<String> {
    let name = &check.name;
    match check.state {
        HealthCheckState::Up => None,
        HealthCheckState::Unknown => Some(format!("{name} has not been checked yet")),
        HealthCheckState::Down => Some(match &check.last_error {
            Some(error) => format!("{name} is down ({error})"),
            None => format!("{name} is down"),
        }),
    }
}

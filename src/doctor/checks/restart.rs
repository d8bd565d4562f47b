//! Whether a restart would succeed, and whether the last one did.

use crate::doctor::finding::Finding;
use crate::doctor::setting_problem::fix_hint;
use crate::doctor::snapshot::{RestartSettings, Snapshot};

const RESTART: &str = "restart";

/// The failure of the last restart. Nobody receives the reason of one that was requested by signal.
pub fn last_failure(snapshot: &Snapshot) -> Option<Finding> {
    let failed = snapshot.state_file.as_ref()?.failed_restart.as_ref()?;
    Some(Finding::warning(
        RESTART,
        format!(
            "the last restart failed at {}: {}",
            failed.at, failed.reason
        ),
        "fix the cause, then run `fullon restart`",
    ))
}

/// Whether the settings that the daemon would read after a restart are valid. Problems that the
/// local settings have too are not repeated.
pub fn settings(snapshot: &Snapshot) -> Vec<Finding> {
    match &snapshot.restart {
        None => Vec::new(),
        Some(RestartSettings::DirectoryRemoved(directory)) => vec![Finding::warning(
            RESTART,
            format!(
                "the daemon's working directory {} no longer exists: a restart would fail",
                directory.display()
            ),
            "run `fullon stop`, then `fullon start` in the directory of its .env file",
        )],
        Some(RestartSettings::Loaded { sources, problems }) if problems.is_empty() => {
            vec![Finding::ok(
                RESTART,
                format!(
                    "the settings that a restart would read are valid ({})",
                    sources.file().display()
                ),
            )]
        }
        Some(RestartSettings::Loaded { sources, problems }) => problems
            .iter()
            .filter(|problem| !snapshot.problems.contains(problem))
            .map(|problem| {
                let message = format!("a restart would fail: {problem}");
                Finding::error(RESTART, message, fix_hint(problem, sources, true))
            })
            .collect(),
    }
}

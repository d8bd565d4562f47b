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
        format!("the last one failed at {}: {}", failed.at, failed.reason),
        "fullon restart, once that is mended",
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
                "the daemon was started in {}, which is gone: it cannot be restarted there",
                directory.display()
            ),
            "fullon stop, and fullon start where its .env is",
        )],
        Some(RestartSettings::Loaded { sources, problems }) if problems.is_empty() => {
            vec![Finding::ok(
                RESTART,
                format!(
                    "the settings it would read are valid ({})",
                    sources.file().display()
                ),
            )]
        }
        Some(RestartSettings::Loaded { sources, problems }) => problems
            .iter()
            .filter(|problem| !snapshot.problems.contains(problem))
            .map(|problem| {
                let message = format!("would be refused: {problem}");
                Finding::error(RESTART, message, fix_hint(problem, sources, true))
            })
            .collect(),
    }
}

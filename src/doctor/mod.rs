//! Diagnoses the daemon, its settings and its files, and suggests what to do. Changes nothing: it
//! creates no file and signals no process.
//!
//! [`diagnose`] gathers one `Snapshot` and runs each check of `checks::CHECKS` on it.

mod checks;
mod creation;
mod finding;
mod process;
mod setting_problem;
mod snapshot;

use serde::Serialize;

pub use finding::{Finding, Severity};

use crate::config::{BestEffortSettings, Sources};
use crate::control::{DaemonControl, InvalidAdminUrl};
use checks::CHECKS;
use snapshot::Snapshot;

/// The findings of all checks.
#[derive(Debug, Clone, Serialize)]
pub struct Diagnosis {
    /// Whether a daemon could run with the current settings.
    pub configuration_is_valid: bool,
    /// In the order of the checks.
    pub findings: Vec<Finding>,
}

impl Diagnosis {
    /// The number of findings of this severity.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        let matches = |finding: &&Finding| finding.severity == severity;
        self.findings.iter().filter(matches).count()
    }
}

/// Runs all checks. `subject` is the caller's name in the audit trail.
///
/// # Errors
///
/// `admin_url` is not an `http://` address.
pub async fn diagnose(
    sources: &Sources,
    admin_url: Option<&str>,
    subject: &str,
) -> Result<Diagnosis, InvalidAdminUrl> {
    let settings = BestEffortSettings::load(sources);
    let control = DaemonControl::new(settings.client.clone(), admin_url, subject)?;
    let snapshot = Snapshot::gather(&control, sources, &settings).await;
    Ok(Diagnosis {
        configuration_is_valid: snapshot.is_configuration_valid(),
        findings: CHECKS
            .iter()
            .flat_map(|check| check.run(&snapshot))
            .collect(),
    })
}

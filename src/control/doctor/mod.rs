//! Looks at all that can be wrong with the daemon, its settings and its files, and says what to do. Changes nothing:
//! makes no file and signals no process.

mod answers;
mod daemon;
mod files;
mod machine;
mod settings;

use serde::Serialize;

use super::{Control, InvalidAdminUrl};
use crate::config::{BestEffortSettings, InvalidSettings, SettingProblem, Settings, Sources};
use daemon::DaemonState;

/// How a finding is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// It works, and somebody should know.
    Warning,
    /// It does not work, or is not safe.
    Error,
}

/// One thing that was looked at.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// What: `settings`, `PID file`, `PORT`.
    pub subject: &'static str,
    /// How it is.
    pub verdict: Severity,
    /// What was seen.
    pub seen: String,
    /// What to do next, if there is something to do.
    pub next: Option<String>,
}

impl Finding {
    fn ok(subject: &'static str, seen: impl Into<String>) -> Self {
        Self {
            subject,
            verdict: Severity::Ok,
            seen: seen.into(),
            next: None,
        }
    }

    fn warning(subject: &'static str, seen: impl Into<String>, next: impl Into<String>) -> Self {
        Self {
            verdict: Severity::Warning,
            ..Self::ok(subject, seen).with_hint(next)
        }
    }

    fn error(subject: &'static str, seen: impl Into<String>, next: impl Into<String>) -> Self {
        Self {
            verdict: Severity::Error,
            ..Self::ok(subject, seen).with_hint(next)
        }
    }

    fn with_hint(self, next: impl Into<String>) -> Self {
        Self {
            next: Some(next.into()),
            ..self
        }
    }
}

/// Everything that was looked at.
#[derive(Debug, Clone, Serialize)]
pub struct Diagnosis {
    /// Whether a daemon could run with the settings as they are.
    pub configuration_is_valid: bool,
    /// At least one for each thing.
    pub findings: Vec<Finding>,
}

impl Diagnosis {
    /// How many findings have this verdict.
    #[must_use]
    pub fn count(&self, verdict: Severity) -> usize {
        let is_it = |finding: &&Finding| finding.verdict == verdict;
        self.findings.iter().filter(is_it).count()
    }
}

/// Looks at everything. `subject` is who asks, for the audit trail.
///
/// # Errors
///
/// `admin_url` is not an `http://` address.
pub async fn diagnose(
    sources: &Sources,
    admin_url: Option<&str>,
    subject: &str,
) -> Result<Diagnosis, InvalidAdminUrl> {
    let partial = BestEffortSettings::load(sources);
    let control = Control::new(partial.client, admin_url, subject)?;
    let mut problems = problems(sources, false);
    let mut findings = settings::findings(sources, &problems);
    findings.extend(settings::env_file(sources, &problems));
    findings.extend(settings::typos(sources));
    let mut of_daemon = Vec::new();
    let mut daemon = control.look(partial.public, &mut of_daemon).await;
    findings.extend(settings::secret(sources, &control.locator, &daemon));
    findings.extend(of_daemon);
    if !partial.is_pid_file_valid {
        // Nobody knows which file is meant; that it is wrong is among the problems.
        findings.retain(|finding| finding.subject != files::PID_FILE);
        if daemon.daemon_state == DaemonState::NotRunning {
            daemon.daemon_state = DaemonState::Unknown;
        }
    }
    match daemon.daemon_state {
        DaemonState::Remote => {}
        DaemonState::Running => {
            problems.extend(daemon.problems_of_a_restart(&problems, &mut findings));
            findings.extend(machine::log(
                &daemon,
                &control.locator,
                partial.log_max_size,
            ));
        }
        DaemonState::NotRunning | DaemonState::Unknown => {
            findings.extend(machine::ports(
                &daemon,
                partial.public,
                control.locator.admin,
            ));
            findings.extend(machine::log(
                &daemon,
                &control.locator,
                partial.log_max_size,
            ));
        }
    }
    Ok(Diagnosis {
        configuration_is_valid: problems.is_empty(),
        findings,
    })
}

fn problems(sources: &Sources, is_in_background: bool) -> Vec<SettingProblem> {
    let checked = Settings::load(sources).and_then(|settings| {
        if is_in_background {
            settings.check_background()
        } else {
            Ok(())
        }
    });
    checked
        .err()
        .map_or_else(Vec::new, |InvalidSettings(problems)| problems)
}

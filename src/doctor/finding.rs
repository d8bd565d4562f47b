//! The result of one check.

use serde::Serialize;

/// The subject of findings about the signing key, which two checks report.
pub(super) const SIGNING_KEY: &str = "signing key";

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// It works, but an operator should know.
    Warning,
    /// It does not work, or is not safe.
    Error,
}

/// One observation, and the next step. `fullon doctor --json` prints it.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// The checked thing, such as `settings`, `PID file` or `PORT`.
    pub subject: &'static str,
    pub severity: Severity,
    /// The observation.
    pub message: String,
    /// The next step, if there is one.
    pub hint: Option<String>,
}

impl Finding {
    pub(super) fn ok(subject: &'static str, message: impl Into<String>) -> Self {
        Self {
            subject,
            severity: Severity::Ok,
            message: message.into(),
            hint: None,
        }
    }

    pub(super) fn warning(
        subject: &'static str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::ok(subject, message).with_hint(hint)
        }
    }

    pub(super) fn error(
        subject: &'static str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            severity: Severity::Error,
            ..Self::ok(subject, message).with_hint(hint)
        }
    }

    pub(super) fn with_hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }
}

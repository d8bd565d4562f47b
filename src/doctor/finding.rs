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
    #[serde(rename = "wrong")]
    Error,
}

/// One observation, and what to do about it. The serialized names are those of `fullon doctor --json`.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// What was checked, such as `settings`, `PID file` or `PORT`.
    pub subject: &'static str,
    /// How bad it is.
    #[serde(rename = "verdict")]
    pub severity: Severity,
    /// What was observed.
    #[serde(rename = "seen")]
    pub message: String,
    /// The next step, if there is one.
    #[serde(rename = "next")]
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

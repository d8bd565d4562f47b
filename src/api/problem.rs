//! Errors: RFC 9457, `application/problem+json`.

use std::fmt;

use poem_openapi::Object;
use serde::{Deserialize, Serialize};

/// Start of the detail of a 404 for an unknown path.
const UNKNOWN_PATH_PREFIX: &str = "there is nothing at";

/// An error.
#[derive(Debug, Clone, PartialEq, Eq, Object, Serialize, Deserialize)]
pub struct Problem {
    /// A URI reference that names the kind of problem; `about:blank` when the status says it all.
    #[oai(rename = "type")]
    #[serde(rename = "type", default = "about_blank")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What went wrong this time and what to do about it.
    pub detail: String,
    /// With an invalid configuration: everything that is wrong with it.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub errors: Option<Vec<SettingError>>,
}

/// One thing that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Object, Serialize, Deserialize)]
pub struct SettingError {
    /// Name of the setting, or path of a file.
    pub setting: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl Problem {
    /// The detail of a 404 for an unknown path.
    #[must_use]
    pub fn unknown_path_detail(path: &str) -> String {
        format!("{UNKNOWN_PATH_PREFIX} {path}")
    }

    /// Whether the path itself is unknown, rather than what the request names. Nothing else on the
    /// wire distinguishes the two.
    #[must_use]
    pub fn is_unknown_path(&self) -> bool {
        self.detail.starts_with(UNKNOWN_PATH_PREFIX)
    }

    /// The detail without the advice after it.
    #[must_use]
    pub fn reason(&self) -> &str {
        self.detail.split(": ").next().unwrap_or(&self.detail)
    }
}

fn about_blank() -> String {
    "about:blank".into()
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.status, self.title, self.detail)
    }
}

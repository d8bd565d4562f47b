//! Errors: RFC 9457, `application/problem+json`.

use std::fmt;

use poem_openapi::Object;
use serde::{Deserialize, Serialize};

/// Start of the detail of a 404 for an unknown path.
const UNKNOWN_PATH_PREFIX: &str = "unknown path";

/// Problem details of an error (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Object, Serialize, Deserialize)]
pub struct Problem {
    /// Kind of the problem as a URI reference. Always `about:blank`: the kind is the HTTP status.
    #[oai(rename = "type")]
    #[serde(rename = "type", default = "about_blank")]
    pub kind: String,
    /// Name of the HTTP status, such as `Not Found`.
    pub title: String,
    /// HTTP status code, 400 to 599.
    pub status: u16,
    /// Cause of this error and the next step, for people.
    pub detail: String,
    /// All errors in the settings, with status 422. Absent otherwise.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub errors: Option<Vec<SettingError>>,
}

/// One error in the settings.
#[derive(Debug, Clone, PartialEq, Eq, Object, Serialize, Deserialize)]
pub struct SettingError {
    /// Name of the invalid setting, or path of the file that cannot be read.
    pub setting: String,
    /// Description of the error and of valid values.
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

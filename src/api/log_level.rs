//! The log level.

use poem_openapi::Object;
use serde::{Deserialize, Serialize};

/// The longest time until a changed level reverts: a day.
pub const MAX_REVERT_SECONDS: f64 = 86_400.0;

/// The active log level, and the level to which it reverts.
#[derive(Debug, Clone, PartialEq, Object, Serialize, Deserialize)]
pub struct LogLevelStatus {
    /// Active log level: a level, or filter directives such as `info,hyper=debug`.
    pub level: String,
    /// Log level of the setting `LOG_LEVEL`.
    pub configured_level: String,
    /// Seconds until the level reverts to `configured_level`. Absent when no revert is scheduled.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub revert_after_seconds: Option<f64>,
}

/// A new log level, and how long it lasts.
#[derive(Debug, Clone, PartialEq, Object, Serialize, Deserialize)]
#[oai(deny_unknown_fields)]
#[serde(deny_unknown_fields)]
pub struct LogLevelRequest {
    /// `error`, `warn`, `info`, `debug`, `trace` or `off`; or filter directives for parts of the
    /// program, such as `info,hyper=debug`.
    pub level: String,
    /// Seconds until the level reverts to the configured one, 1 to 86400. Default: it does not
    /// revert by itself.
    #[oai(
        skip_serializing_if_is_none,
        validator(maximum(value = "86400"), minimum(value = "1"))
    )]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub revert_after_seconds: Option<f64>,
}

//! The log level.

use poem_openapi::Object;
use serde::{Deserialize, Serialize};

/// The longest time until a changed level reverts: a day.
pub const MAX_REVERT_SECONDS: f64 = 86_400.0;

/// Answer of `GET` and `PUT /admin/log-level`.
#[derive(Debug, Clone, PartialEq, Object, Serialize, Deserialize)]
pub struct LogLevel {
    /// What is logged now: a level, or directives such as `info,hyper=debug`.
    pub level: String,
    /// What `LOG_LEVEL` says, which is logged otherwise.
    pub configured_level: String,
    /// Seconds until `configured_level` is in force again by itself; absent when it is, or will not be.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub revert_after_seconds: Option<f64>,
}

/// Body of `PUT /admin/log-level`.
#[derive(Debug, Clone, PartialEq, Object, Serialize, Deserialize)]
#[oai(deny_unknown_fields)]
#[serde(deny_unknown_fields)]
pub struct LogLevelRequest {
    /// `error`, `warn`, `info`, `debug`, `trace` or `off`, and directives for parts of the program, such as `info,hyper=debug`.
    pub level: String,
    /// When the configured level is to be in force again, in seconds, 1 to 86400; never by itself when left out.
    #[oai(
        skip_serializing_if_is_none,
        validator(maximum(value = "86400"), minimum(value = "1"))
    )]
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub revert_after_seconds: Option<f64>,
}

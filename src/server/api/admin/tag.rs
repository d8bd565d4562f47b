//! Tags that group the operations in the OpenAPI document.

use poem_openapi::Tags;

/// Topic of an operation.
#[derive(Tags)]
#[oai(rename_all = "lowercase")]
pub enum AdminTag {
    /// Status and metrics of the process; stop and restart.
    Daemon,
    /// Active settings, and reloading them.
    Settings,
    /// Log lines, the log stream and the log level.
    Log,
    /// The audit trail: changes, and their callers.
    Audit,
    /// Browser sessions of the console: sign in and sign out.
    Session,
}

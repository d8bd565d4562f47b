//! Tags that group the operations in the OpenAPI document.

use poem_openapi::Tags;

/// What an operation is about.
#[derive(Tags)]
#[oai(rename_all = "lowercase")]
pub enum AdminTag {
    /// The process: how it is doing, and what becomes of it.
    Daemon,
    /// What it was told at its start, and since.
    Settings,
    /// Reading the log, and following it.
    Log,
    /// Cookies in place of tokens, for pages.
    Session,
}

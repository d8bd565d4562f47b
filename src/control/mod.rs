//! Operates the daemon: through the admin API first, and through its PID file and log file if the
//! API cannot be used. The command line prints the results; nothing here prints or exits.

mod audit;
mod console;
mod ignored_flags;
mod launch;
mod logs;
mod ready;
mod reload;
mod restart;
mod retries;
mod revoke;
mod sessions;
mod signal;
mod status;
mod stop;
mod target;
mod token;

pub use crate::instance::Launch;
pub use audit::{AuditError, VerifiedAudit};
pub use console::{ConsoleAddress, ConsoleError};
pub use ignored_flags::{IgnoredFlags, IgnoredVariables};
pub use launch::{LaunchError, StartedDaemon};
pub use logs::{LogLine, LogLines, LogsError};
pub use ready::ReadyReport;
pub use reload::{ReloadError, ReloadOutcome};
pub use restart::{OtherProgram, RestartError, RestartOptions, RestartOutcome};
pub use revoke::{RevokeOutcome, RevokeTokensError};
pub use sessions::SessionsError;
pub use signal::NotPermitted;
pub use status::StatusReport;
pub use stop::{StopError, StopMethod, StopOutcome};
pub use target::{DaemonControl, InvalidAdminUrl};
pub use token::LocalSecretError;

pub(crate) use ignored_flags::sources_after_restart;
pub(crate) use target::{Target, fetch_status};
pub(crate) use token::key_hint;

//! The wire contract: one type for what the servers send, the client reads and the OpenAPI
//! documents describe.
//!
//! A type derives `Object` for its schema and `serde` for its bytes, so that the fields appear in
//! the order of their declaration. Timestamps are RFC 3339 in UTC. An `Option` that is `None` is
//! left out, except in [`LogEntry`] and [`LogPage`], where it is `null`.

mod address;
mod application;
mod audit;
mod health;
mod lifecycle;
mod log;
mod log_level;
mod problem;
mod proof;
mod session;
mod settings;
mod status;
mod token;

pub use address::{base_url, reachable_address, reachable_addresses};
pub use application::WorkerStatus;
pub use audit::{AuditEntry, AuditPage, AuditState, AuditTornLine, MAX_AUDIT_RECORDS};
pub use health::{
    DaemonPhase, HealthCheck, HealthCheckState, HealthReport, HealthStatus, LivenessReport,
    ReadinessReport,
};
pub use lifecycle::{
    DEFAULT_RESTART_TIMEOUT, ExitCause, LastExit, MAX_TIMEOUT_SECONDS, MIN_RESTART_TIMEOUT_SECONDS,
    RestartRequest, RestartResult, StopRequest, StopResult, start_timeout,
};
pub(crate) use log::LogEntryRef;
pub use log::{
    IncompleteLogFile, LogEntry, LogPage, LogStreamEnd, LogStreamGap, MAX_PAGE_LINES, event,
};
pub use log_level::{LogLevelRequest, LogLevelStatus, MAX_REVERT_SECONDS};
pub use problem::{Problem, SettingError};
pub use proof::{ProofRequest, ProofResult};
pub use session::{BrowserSession, CreatedSession, SessionSummary, SignInPreview, SignInToken};
pub use settings::{ReloadResult, SettingChange, SettingEntry};
pub use status::{
    DaemonStatus, DurationBucket, HttpUsage, ProcessUsage, RequestTotals, ServiceInfo,
};
pub use token::{RevokeRequest, RevokeResult};

/// Path of the console on the admin port.
pub const CONSOLE_PATH: &str = "/console";
/// Path of an image that clears what a browser has stored for the admin port, up to the id of a
/// one-time token.
pub const CONSOLE_CLEAR_PATH: &str = "/console/clear/";
/// Path of the proof that client and daemon have the same key.
pub const PROOF_PATH: &str = "/admin/proof";
/// Version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

//! Who may call the admin API: tokens, sessions, the limit on failed attempts, and the audit trail.

mod audit;
mod cookie;
mod extract;
mod failure_limit;
mod state;

pub use audit::{AuditRecord, AuditedActions};
pub use cookie::SessionCookie;
pub use extract::{AnyToken, Auth, Control, Logs, Read, SignIn, SignedIn};
pub use state::AuthState;

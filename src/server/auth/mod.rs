//! Access to the admin API: tokens, sessions, and the limit on failed attempts.

mod cookie;
mod extract;
mod failure_limit;
pub mod proof;
mod state;

pub use extract::{AnyToken, Auth, Control, Follow, InspectSignIn, Logs, Read, SignIn, SignedIn};
pub use state::AuthState;

//! Access to the admin API: tokens, sessions, and the limit on failed attempts.

mod body;
mod cookie;
mod extract;
mod failure_limit;
pub mod proof;
mod state;

pub use body::AuthorizedBody;
pub use extract::{
    AnyToken, Auth, Control, Follow, InspectSignIn, Logs, Read, SignIn, SignOut, SignedIn,
};
pub use state::AuthState;

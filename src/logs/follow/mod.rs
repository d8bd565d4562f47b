//! Following the log.

pub(crate) mod broadcast;
pub(crate) mod follower;
mod notify;

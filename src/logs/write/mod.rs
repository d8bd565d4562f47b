//! Writing the log.

pub(crate) mod file;
pub(crate) mod format;
pub(crate) mod health;
pub(crate) mod level;
pub(crate) mod open;
pub(crate) mod queue;
pub(crate) mod rotate;
pub(crate) mod writer_mark;

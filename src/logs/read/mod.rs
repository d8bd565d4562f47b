//! Reading the log: the last lines from the end backwards, and everything from a position forward.

pub(crate) mod filter;
pub(crate) mod line;
pub(crate) mod lines;
pub(crate) mod query;
pub(crate) mod reader;
pub(crate) mod result;
mod reverse;
pub(crate) mod scan;
pub(crate) mod search_text;

//! Fuzz targets of the log.

mod parse;
mod read_at_cursor;

pub use parse::{log_cursor, log_filter, log_line};
pub use read_at_cursor::log_read_at_cursor;

pub(crate) use read_at_cursor::TestLog;

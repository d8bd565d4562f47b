//! The log over HTTP: pages, the event stream, and the limit of clients that read at the same time.

pub mod access_end;
pub mod page;
mod reader_limit;
pub mod stream;

pub use reader_limit::LogReaderLimit;

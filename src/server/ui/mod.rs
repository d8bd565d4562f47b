//! Pages for people: the console and the API documentation.

pub mod console;
pub mod docs;

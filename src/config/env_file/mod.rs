//! The `.env` file: its syntax (`parser`), and whether it may be trusted (`load`).

mod load;
mod parser;

pub use load::EnvFileChoice;
pub(super) use load::{Content, exposed_file, load, read};
#[cfg(any(test, fuzzing))]
pub(super) use parser::parse as parse_env_file;

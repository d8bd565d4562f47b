//! The `.env` file: its syntax (`parser`), and whether it may be trusted (`load`).

#[cfg(test)]
mod comparison;
mod load;
mod parser;

pub(super) use load::{Content, exposed_file, load, read};
pub use load::{EnvFileChoice, replaceable_directory};
#[cfg(any(test, fuzzing))]
pub(super) use parser::parse as parse_env_file;

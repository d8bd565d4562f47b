//! Why a command failed.

use thiserror::Error;

use crate::config::InvalidSettings;

#[derive(Debug, Error)]
pub enum CommandError {
    #[error(transparent)]
    InvalidConfig(#[from] InvalidSettings),
    /// The arguments are wrong in a way that clap does not detect.
    #[error("{0}")]
    Usage(String),
    /// Any other error. The message of each error of this crate includes its cause.
    #[error("{0}")]
    Other(#[from] anyhow::Error),
    /// The error was printed already; only the exit code remains.
    #[error("exit code {0}")]
    Exit(u8),
    /// The reader of stdout has closed it.
    #[error("stdout was closed by its reader")]
    OutputClosed,
}

impl From<std::io::Error> for CommandError {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            Self::OutputClosed
        } else {
            Self::Other(error.into())
        }
    }
}

pub type Result<T = ()> = std::result::Result<T, CommandError>;

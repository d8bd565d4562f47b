//! Finds the file of a program, as a shell does.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use thiserror::Error;

/// Why a program cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProgramError {
    /// A word without `/` that no directory of `PATH` has.
    #[error("is in no directory of PATH")]
    NotInPath,
    #[error("does not exist")]
    Missing,
    #[error("is a directory, not a program")]
    IsDirectory,
    #[error("is not executable")]
    NotExecutable,
}

/// The file of a program. `search_path` is the value of `PATH`, and `directory` the working
/// directory.
///
/// # Errors
///
/// There is no such file, or this user cannot run it.
pub fn find_program(
    word: &OsStr,
    search_path: Option<&OsStr>,
    directory: &Path,
) -> Result<PathBuf, ProgramError> {
    if word.as_encoded_bytes().contains(&b'/') {
        let file = directory.join(word);
        return check(&file).map(|()| file);
    }
    let mut problem = ProgramError::NotInPath;
    for searched in std::env::split_paths(search_path.unwrap_or_default()) {
        let file = directory.join(searched).join(word);
        match check(&file) {
            Ok(()) => return Ok(file),
            Err(ProgramError::NotExecutable) => problem = ProgramError::NotExecutable,
            Err(_) => {}
        }
    }
    Err(problem)
}

fn check(file: &Path) -> Result<(), ProgramError> {
    let metadata = file.metadata().map_err(|_| ProgramError::Missing)?;
    if metadata.is_dir() {
        return Err(ProgramError::IsDirectory);
    }
    access(file, Access::EXEC_OK).map_err(|_| ProgramError::NotExecutable)
}

/// The interpreter in the first line of a script (`#!`), if it does not exist. A virtual environment
/// that was moved leaves such scripts.
pub fn missing_interpreter(script: &Path) -> Option<PathBuf> {
    const MAX_LINE: u64 = 256;
    let mut start = Vec::new();
    let file = File::open(script).ok()?;
    file.take(MAX_LINE).read_to_end(&mut start).ok()?;
    let line = start.strip_prefix(b"#!")?.split(|byte| *byte == b'\n');
    let line = String::from_utf8_lossy(line.into_iter().next()?).into_owned();
    let interpreter = PathBuf::from(line.split_whitespace().next()?);
    (interpreter.is_absolute() && !interpreter.exists()).then_some(interpreter)
}

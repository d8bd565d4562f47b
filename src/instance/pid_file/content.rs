//! Opens the PID file, and reads the PID in it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::error::PidFileError;
use crate::sys::{open_owned, open_regular};

/// Length of the file, in bytes. It is constant, so that a PID is replaced in place and never seen
/// half written. The rest is newlines, which `$(cat FILE)` strips.
const FILE_LEN: usize = 11;
/// A longer file, in bytes, is not a PID file.
const MAX_LEN: usize = 64;

pub fn open_for_reading(path: &Path) -> Result<File, PidFileError> {
    let (file, _) = open_regular(path, OpenOptions::new().read(true))
        .map_err(|error| PidFileError::from_open(path, error))?;
    Ok(file)
}

pub fn open_owned_file(path: &Path, options: &mut OpenOptions) -> Result<File, PidFileError> {
    let (file, _) = open_owned(path, options.read(true).mode(0o600))
        .map_err(|error| PidFileError::from_open(path, error))?;
    Ok(file)
}

pub fn read_pid(file: &File) -> Option<u32> {
    parse_pid(&read_content(file).ok()?)
}

/// Reads at most one byte more than [`MAX_LEN`], so that a longer file is recognized.
fn read_content(file: &File) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    file.take(MAX_LEN as u64 + 1).read_to_end(&mut content)?;
    Ok(content)
}

/// Reads a file that is not locked. Fails unless a daemon may have written it: another file must
/// not be overwritten or removed.
pub fn read_stale_content(path: &Path, file: &File) -> Result<Vec<u8>, PidFileError> {
    let content = read_content(file).map_err(|source| PidFileError::io(path, "read", source))?;
    // A daemon that died while it replaced a PID leaves several numbers. A machine that lost power
    // leaves zero bytes.
    let is_expected = |byte: &u8| byte.is_ascii_digit() || byte.is_ascii_whitespace() || *byte == 0;
    if content.len() <= MAX_LEN && content.iter().all(is_expected) {
        return Ok(content);
    }
    Err(PidFileError::Unusable {
        path: path.to_owned(),
        reason: "contains something other than a PID and was not changed",
    })
}

/// The content of the file for a PID.
pub fn format_pid(pid: u32) -> String {
    format!("{pid:\n<FILE_LEN$}")
}

/// Parses the content of the file. 0 is not a PID.
pub fn parse_pid(content: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(content).ok()?;
    let digits = text.trim();
    let is_number = text.len() <= MAX_LEN && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number
        .then(|| digits.parse().ok())?
        .filter(|pid| *pid > 0)
}

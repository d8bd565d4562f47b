//! Whether files can be created.

use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};

use crate::sys::denial;

/// Why this user cannot create a file at `path`, or `None`.
pub fn creation_obstacle(path: &Path) -> Option<String> {
    let directory = path.parent()?;
    let shown = directory.display();
    match access(directory, AccessFlags::W_OK | AccessFlags::X_OK) {
        Ok(()) => None,
        Err(Errno::ENOENT) => Some(format!("the directory {shown} does not exist")),
        Err(Errno::EACCES) => {
            Some(denial(path).unwrap_or_else(|| format!("this user cannot write to {shown}")))
        }
        Err(errno) => Some(format!("{shown}: {}", io::Error::from(errno))),
    }
}

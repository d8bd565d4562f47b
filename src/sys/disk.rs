//! The space on a file system.

use std::path::Path;

use rustix::fs::statvfs;

/// The space on a file system, in bytes.
pub struct DiskSpace {
    /// Space that this user may still write.
    pub available: u64,
    pub total: u64,
}

impl DiskSpace {
    /// The space where the directory is; `None` when the system does not tell.
    pub fn at(directory: &Path) -> Option<Self> {
        let disk = statvfs(directory).ok()?;
        Some(Self {
            available: disk.f_bavail.saturating_mul(disk.f_frsize),
            total: disk.f_blocks.saturating_mul(disk.f_frsize),
        })
    }
}

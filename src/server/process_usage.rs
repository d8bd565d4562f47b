//! Resources that this process uses, from `proc(5)`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};
use rustix::fs::statvfs;
use rustix::process::{Resource, getrlimit};

use crate::api::ProcessUsage;

/// Reads the current usage. A value that the system does not report is 0.
pub fn read() -> ProcessUsage {
    // The process name, in parentheses, may contain spaces. Field 3 follows it.
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .map_or("", |(_, fields)| fields)
        .split_whitespace()
        .collect();
    let field = |number: usize| {
        fields
            .get(number - 3)
            .and_then(|text| text.parse().ok())
            .unwrap_or(0_u64)
    };
    let page_size = sysconf_value(SysconfVar::PAGE_SIZE);
    let tick = Duration::from_secs(1)
        / u32::try_from(sysconf_value(SysconfVar::CLK_TCK))
            .unwrap_or(100)
            .max(1);
    ProcessUsage {
        rss_bytes: field(24) * page_size,
        cpu_seconds: tick
            .saturating_mul(u32::try_from(field(14) + field(15)).unwrap_or(u32::MAX))
            .as_secs_f64(),
        open_files: fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64),
        threads: field(20),
    }
}

/// The limit of open file descriptors.
pub fn max_open_files() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Bytes that this user may still write to the file system of `file`.
pub fn free_disk_bytes(file: &Path) -> Option<u64> {
    let disk = statvfs(file.parent()?).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

fn sysconf_value(variable: SysconfVar) -> u64 {
    sysconf(variable)
        .ok()
        .flatten()
        .and_then(|value| u64::try_from(value).ok())
        .unwrap_or(0)
}

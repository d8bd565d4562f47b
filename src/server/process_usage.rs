//! Resources that this process uses, from `proc(5)`.

use crate::api::ProcessUsage;
use crate::sys::{Stat, open_fd_count};

/// Reads the current usage. A value that the system does not report is 0.
pub fn read() -> ProcessUsage {
    let stat = Stat::read("self");
    let stat = stat.as_ref();
    ProcessUsage {
        rss_bytes: stat.map(Stat::memory).unwrap_or_default(),
        cpu_seconds: stat.map(Stat::cpu).unwrap_or_default().as_secs_f64(),
        open_files: open_fd_count().unwrap_or(0),
        threads: stat.and_then(|stat| stat.field(20)).unwrap_or_default(),
    }
}

//! Resources that this process uses, from `proc(5)`.

use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};

use crate::api::ProcessUsage;
use crate::sys::{Stat, open_fd_count};

/// Reads the current usage. A value that the system does not report is 0.
pub fn read() -> ProcessUsage {
    let stat = Stat::read("self");
    let field = |number| {
        let value = stat.as_ref().and_then(|stat| stat.field(number));
        value.unwrap_or(0_u64)
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
        open_files: open_fd_count().unwrap_or(0),
        threads: field(20),
    }
}

fn sysconf_value(variable: SysconfVar) -> u64 {
    sysconf(variable)
        .ok()
        .flatten()
        .and_then(|value| u64::try_from(value).ok())
        .unwrap_or(0)
}

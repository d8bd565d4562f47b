//! Fields of `proc(5)`.

use std::fmt::Display;
use std::fs;
use std::str::FromStr;
use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};

/// The text of `/proc/PID/stat` (`proc_pid_stat(5)`).
pub struct Stat(String);

impl Stat {
    /// Reads it. `pid` is a number or `self`.
    pub fn read(pid: impl Display) -> Option<Self> {
        fs::read_to_string(format!("/proc/{pid}/stat"))
            .ok()
            .map(Self)
    }

    /// A field by its number in the manual page, from 3 on.
    pub fn field<T: FromStr>(&self, number: usize) -> Option<T> {
        // Field 2, the name in parentheses, may hold spaces and parentheses.
        let (_, fields) = self.0.rsplit_once(") ")?;
        fields.split(' ').nth(number - 3)?.trim_end().parse().ok()
    }

    /// Resident memory, in bytes.
    pub fn memory(&self) -> u64 {
        self.field::<u64>(24).unwrap_or_default() * sysconf_value(SysconfVar::PAGE_SIZE)
    }

    /// Processor time.
    pub fn cpu(&self) -> Duration {
        let ticks = |number| self.field::<u64>(number).unwrap_or_default();
        let per_second = u32::try_from(sysconf_value(SysconfVar::CLK_TCK)).unwrap_or(100);
        let tick = Duration::from_secs(1) / per_second.max(1);
        tick.saturating_mul(u32::try_from(ticks(14) + ticks(15)).unwrap_or(u32::MAX))
    }
}

fn sysconf_value(variable: SysconfVar) -> u64 {
    sysconf(variable)
        .ok()
        .flatten()
        .and_then(|value| u64::try_from(value).ok())
        .unwrap_or(0)
}

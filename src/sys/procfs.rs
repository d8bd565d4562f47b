//! Fields of `proc(5)`.

use std::fmt::Display;
use std::fs;
use std::str::FromStr;

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
}

//! The machine that the figures depend on.

use anyhow::{Context as _, Result};

/// The columns `idle` and `iowait` of the first line of `/proc/stat` (`proc_stat(5)`).
const IDLE_COLUMNS: [usize; 2] = [3, 4];
/// The column `steal`: time that the host of a virtual machine gave to other guests.
const STOLEN_COLUMN: usize = 7;
/// The columns after these are included in the first ones.
const COLUMNS: usize = 8;

/// Describes the machine and its load in one line.
pub fn describe(rounds: usize) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<&str> = load.split_whitespace().take(3).collect();
    format!(
        "{rounds} rounds, {cores} cores, load average now {}",
        load.join(" ")
    )
}

/// CPU time since boot, in ticks.
pub struct ProcessorTime {
    busy: u64,
    stolen: u64,
    total: u64,
}

impl ProcessorTime {
    pub fn now() -> Result<Self> {
        let text = std::fs::read_to_string("/proc/stat")?;
        let line = text.lines().next().context("/proc/stat is empty")?;
        let columns = line
            .split_whitespace()
            .skip(1)
            .take(COLUMNS)
            .map(str::parse)
            .collect::<Result<Vec<u64>, _>>()
            .context("/proc/stat is not understood")?;
        let idle: u64 = IDLE_COLUMNS
            .iter()
            .filter_map(|column| columns.get(*column))
            .sum();
        let total: u64 = columns.iter().sum();
        Ok(Self {
            busy: total.saturating_sub(idle),
            stolen: columns.get(STOLEN_COLUMN).copied().unwrap_or_default(),
            total,
        })
    }

    /// Busy share of the time between both, in percent.
    pub fn percent_busy_until(&self, later: &Self) -> f64 {
        self.percent(later, |time| time.busy)
    }

    /// Stolen share of the time between both, in percent.
    pub fn percent_stolen_until(&self, later: &Self) -> f64 {
        self.percent(later, |time| time.stolen)
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "seconds in ticks, far below 2^52"
    )]
    fn percent(&self, later: &Self, part: fn(&Self) -> u64) -> f64 {
        let total = later.total.saturating_sub(self.total).max(1);
        part(later).saturating_sub(part(self)) as f64 * 100.0 / total as f64
    }
}

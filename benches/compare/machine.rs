//! The machine: what the figures depend on beside the contenders.

use anyhow::{Context as _, Result};

/// Places of idle and waiting for a disk in the first line of `/proc/stat` (`proc_stat(5)`).
const IDLE_COLUMNS: [usize; 2] = [3, 4];
/// Place of what the host of a virtual machine gave to others meanwhile.
const STOLEN_COLUMN: usize = 7;
/// What follows is counted in the first columns already.
const COLUMNS: usize = 8;

/// One line about it.
pub fn describe(rounds: usize) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<&str> = load.split_whitespace().take(3).collect();
    format!(
        "{rounds} rounds, {cores} cores, load average now {}",
        load.join(" ")
    )
}

/// Processor time since the machine was started, in the system's ticks.
pub struct ProcessorTime {
    busy: u64,
    stolen: u64,
    all: u64,
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
        let all: u64 = columns.iter().sum();
        Ok(Self {
            busy: all.saturating_sub(idle),
            stolen: columns.get(STOLEN_COLUMN).copied().unwrap_or_default(),
            all,
        })
    }

    /// How much of the time since then somebody used, in percent.
    pub fn percent_busy_until(&self, later: &Self) -> f64 {
        self.percent(later, |time| time.busy)
    }

    /// How much of the time since then the host took, in percent.
    pub fn percent_stolen_until(&self, later: &Self) -> f64 {
        self.percent(later, |time| time.stolen)
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "seconds in ticks, far below 2^52"
    )]
    fn percent(&self, later: &Self, of: fn(&Self) -> u64) -> f64 {
        let all = later.all.saturating_sub(self.all).max(1);
        of(later).saturating_sub(of(self)) as f64 * 100.0 / all as f64
    }
}

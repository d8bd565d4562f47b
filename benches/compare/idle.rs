//! Memory and wake-ups of a contender that receives no requests.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::contender::Contender;
use crate::machine::ProcessorTime;
use crate::processes::read_number;
use crate::{interrupt, processes};

/// Time to finish the work that the last requests caused.
const SETTLE_TIME: Duration = Duration::from_secs(3);
const OBSERVATION_TIME: Duration = Duration::from_secs(10);

/// The sum over all processes of a contender.
pub struct IdleUsage {
    /// Proportional set size: a page that two processes map counts half for each.
    pub megabytes: f64,
    /// Wake-ups by thread name during `observed`.
    pub threads: BTreeMap<String, u64>,
    observed: Duration,
    /// CPU time that other programs used during `observed`, in percent.
    pub background_load: f64,
}

impl IdleUsage {
    #[expect(clippy::cast_precision_loss, reason = "a count far below 2^52")]
    pub fn wake_ups_per_second(&self) -> f64 {
        self.threads.values().sum::<u64>() as f64 / self.observed.as_secs_f64()
    }
}

pub fn measure(contender: &Contender) -> Result<IdleUsage> {
    interrupt::sleep(SETTLE_TIME)?;
    let processes = processes::find_in_directory(contender.directory())?;
    ensure!(!processes.is_empty(), "none of its processes was found");
    let mut kibibytes = 0;
    for process in &processes {
        kibibytes += read_number(&process.proc_directory().join("smaps_rollup"), "Pss:")?;
    }

    let started_at = Instant::now();
    let before = count_wake_ups(contender)?;
    let processor = ProcessorTime::now()?;
    interrupt::sleep(OBSERVATION_TIME)?;
    let background_load = processor.percent_busy_until(&ProcessorTime::now()?);
    let after = count_wake_ups(contender)?;
    let watched = started_at.elapsed();
    let mut threads = BTreeMap::new();
    for (task, (name, count)) in after {
        // All wake-ups of a new thread are counted.
        let earlier = before.get(&task).map_or(0, |(_, count)| *count);
        *threads.entry(name).or_default() += count.saturating_sub(earlier);
    }
    Ok(IdleUsage {
        megabytes: f64::from(u32::try_from(kibibytes)?) * 1024.0 / 1e6,
        threads,
        observed: watched,
        background_load,
    })
}

/// Name and voluntary context switches of each thread. A thread that waits for events counts one
/// switch each time it waits again.
fn count_wake_ups(contender: &Contender) -> Result<BTreeMap<PathBuf, (String, u64)>> {
    let mut all = BTreeMap::new();
    for process in processes::find_in_directory(contender.directory())? {
        for task in fs::read_dir(process.proc_directory().join("task"))? {
            let task = task?.path();
            let count = read_number(&task.join("status"), "voluntary_ctxt_switches:")?;
            let name = fs::read_to_string(task.join("comm"))?.trim().to_owned();
            all.insert(task, (name, count));
        }
    }
    Ok(all)
}

//! What a contender costs while nobody asks it anything: memory, and how often it wakes up.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::contender::Contender;
use crate::machine::ProcessorTime;
use crate::processes::field;
use crate::{interrupt, processes};

/// What the last requests left to do is done by then.
const SETTLE: Duration = Duration::from_secs(3);
/// How long wake-ups are counted.
const WATCHED: Duration = Duration::from_secs(10);

/// The sum over all processes of a contender.
pub struct Idle {
    /// Proportional share: a page that two processes map counts half for each.
    pub megabytes: f64,
    /// Wake-ups by name of the thread, while `watched`.
    pub threads: BTreeMap<String, u64>,
    watched: Duration,
    /// How much of the machine was used meanwhile, in percent. It was not by the benchmark.
    pub disturbance: f64,
}

impl Idle {
    #[expect(clippy::cast_precision_loss, reason = "a count far below 2^52")]
    pub fn wake_ups_per_second(&self) -> f64 {
        self.threads.values().sum::<u64>() as f64 / self.watched.as_secs_f64()
    }
}

pub fn measure(contender: &Contender) -> Result<Idle> {
    interrupt::rest(SETTLE)?;
    let processes = processes::within(contender.directory())?;
    ensure!(!processes.is_empty(), "none of its processes was found");
    let mut kibibytes = 0;
    for process in &processes {
        kibibytes += field(&process.proc().join("smaps_rollup"), "Pss:")?;
    }

    let begun = Instant::now();
    let before = wake_ups(contender)?;
    let processor = ProcessorTime::now()?;
    interrupt::rest(WATCHED)?;
    let disturbance = processor.percent_busy_until(&ProcessorTime::now()?);
    let after = wake_ups(contender)?;
    let watched = begun.elapsed();
    let mut threads = BTreeMap::new();
    for (task, (name, count)) in after {
        // A thread that is new has woken up for the first time.
        let earlier = before.get(&task).map_or(0, |(_, count)| *count);
        *threads.entry(name).or_default() += count.saturating_sub(earlier);
    }
    Ok(Idle {
        megabytes: f64::from(u32::try_from(kibibytes)?) * 1024.0 / 1e6,
        threads,
        watched,
        disturbance,
    })
}

/// Name and voluntary context switches of every thread: a thread that waits for an event counts one each time it goes
/// back to wait.
fn wake_ups(contender: &Contender) -> Result<BTreeMap<PathBuf, (String, u64)>> {
    let mut all = BTreeMap::new();
    for process in processes::within(contender.directory())? {
        for task in fs::read_dir(process.proc().join("task"))? {
            let task = task?.path();
            let count = field(&task.join("status"), "voluntary_ctxt_switches:")?;
            let name = fs::read_to_string(task.join("comm"))?.trim().to_owned();
            all.insert(task, (name, count));
        }
    }
    Ok(all)
}

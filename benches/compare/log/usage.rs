//! What processes use: memory of their own, which pages of files and of the program are no part of, and time.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::contender::Contender;
use crate::processes;

const SAMPLED_EVERY: Duration = Duration::from_millis(2);

/// The processes that a contender has now.
#[derive(Clone)]
pub struct Usage(Vec<PathBuf>);

impl Usage {
    /// Of those that run now: later ones are not counted.
    pub fn of(contender: &Contender) -> Result<Self> {
        let processes = processes::within(contender.directory())?;
        ensure!(!processes.is_empty(), "none of its processes was found");
        let proc = |process: &processes::Process| process.proc();
        Ok(Self(processes.iter().map(proc).collect()))
    }

    /// Anonymous memory, in KiB.
    pub fn memory(&self) -> Result<f64> {
        let mut kibibytes = 0;
        for proc in &self.0 {
            kibibytes += processes::field(&proc.join("status"), "RssAnon:")?;
        }
        Ok(f64::from(u32::try_from(kibibytes)?))
    }

    /// How many seconds they have run.
    pub fn processor_seconds(&self) -> Result<f64> {
        let seconds = |proc: &PathBuf| processes::processor_seconds(proc);
        self.0.iter().map(seconds).sum()
    }

    /// The most that it was while something was done, in KiB.
    pub fn peak_memory_during<T>(&self, action: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let sampler = scope.spawn(|| {
                let mut peak: f64 = 0.0;
                while !is_over.load(Ordering::Acquire) {
                    peak = peak.max(self.memory()?);
                    thread::sleep(SAMPLED_EVERY);
                }
                Ok::<_, anyhow::Error>(peak.max(self.memory()?))
            });
            let outcome = action();
            is_over.store(true, Ordering::Release);
            let peak = sampler.join().ok().context("the sampler panicked")??;
            Ok((outcome?, peak))
        })
    }
}

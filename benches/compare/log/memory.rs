//! What processes hold for themselves: anonymous memory, which pages of files and of the program are no part of.

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
pub struct Memory(Vec<PathBuf>);

impl Memory {
    /// Of those that run now: later ones are not counted.
    pub fn of(contender: &Contender) -> Result<Self> {
        let processes = processes::within(contender.directory())?;
        ensure!(!processes.is_empty(), "none of its processes was found");
        let status = |process: &processes::Process| process.proc().join("status");
        Ok(Self(processes.iter().map(status).collect()))
    }

    /// In KiB.
    pub fn now(&self) -> Result<f64> {
        let mut kibibytes = 0;
        for status in &self.0 {
            kibibytes += processes::field(status, "RssAnon:")?;
        }
        Ok(f64::from(u32::try_from(kibibytes)?))
    }

    /// The most that it was while something was done, in KiB.
    pub fn peak_during<T>(&self, action: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let sampler = scope.spawn(|| {
                let mut peak: f64 = 0.0;
                while !is_over.load(Ordering::Acquire) {
                    peak = peak.max(self.now()?);
                    thread::sleep(SAMPLED_EVERY);
                }
                Ok::<_, anyhow::Error>(peak.max(self.now()?))
            });
            let outcome = action();
            is_over.store(true, Ordering::Release);
            let peak = sampler.join().ok().context("the sampler panicked")??;
            Ok((outcome?, peak))
        })
    }
}

//! CPU time and anonymous memory of processes. File and program pages are not included.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::contender::Contender;
use crate::processes;

const SAMPLE_INTERVAL: Duration = Duration::from_millis(2);

/// The processes of a contender, as directories in `/proc`.
#[derive(Clone)]
pub struct ResourceUsage(Vec<PathBuf>);

impl ResourceUsage {
    /// The processes that run now. Later ones are not included.
    pub fn of_contender(contender: &Contender) -> Result<Self> {
        let processes = processes::find_in_directory(contender.directory())?;
        ensure!(!processes.is_empty(), "none of its processes was found");
        let proc = |process: &processes::Process| process.proc_directory();
        Ok(Self(processes.iter().map(proc).collect()))
    }

    /// Anonymous memory in KiB.
    pub fn memory_kib(&self) -> Result<f64> {
        let mut kibibytes = 0;
        for proc in &self.0 {
            kibibytes += processes::read_number(&proc.join("status"), "RssAnon:")?;
        }
        Ok(f64::from(u32::try_from(kibibytes)?))
    }

    /// CPU time in seconds.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let seconds = |proc: &PathBuf| processes::cpu_seconds(proc);
        self.0.iter().map(seconds).sum()
    }

    /// Result of the action, and peak memory during it in KiB.
    pub fn peak_memory_kib<T>(&self, action: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
        let is_finished = AtomicBool::new(false);
        thread::scope(|scope| {
            let sampler = scope.spawn(|| {
                let mut peak: f64 = 0.0;
                while !is_finished.load(Ordering::Acquire) {
                    peak = peak.max(self.memory_kib()?);
                    thread::sleep(SAMPLE_INTERVAL);
                }
                Ok::<_, anyhow::Error>(peak.max(self.memory_kib()?))
            });
            let outcome = action();
            is_finished.store(true, Ordering::Release);
            let peak = sampler.join().ok().context("the sampler panicked")??;
            Ok((outcome?, peak))
        })
    }
}

//! The state that the measurements of a run share.

use anyhow::{Error, Result};

use super::rows::LogRow;
use crate::figures::Figures;
use crate::interrupt;
use crate::ports::Ports;
use crate::progress::{report_failure, report_skipped};

pub struct LogBenchmark {
    pub ports: Ports,
    pub figures: Figures<LogRow>,
    /// Lines to print below the table.
    pub notes: Vec<String>,
    pub has_failed: bool,
}

impl LogBenchmark {
    pub fn new() -> Result<Self> {
        Ok(Self {
            ports: Ports::new()?,
            figures: Figures::new(),
            notes: Vec::new(),
            has_failed: false,
        })
    }

    /// Runs a measurement of fullon. If it fails, its rows have no figures in this round. Only
    /// Ctrl-C ends the run.
    pub fn measure(
        &mut self,
        name: &str,
        measurement: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        if let Some(error) = self.try_to_measure(name, measurement)? {
            self.has_failed = true;
            report_failure(name, &error);
        }
        Ok(())
    }

    /// Runs a measurement that may fail: of a rival, or of a load that fullon need not bear.
    pub fn measure_optional(
        &mut self,
        name: &str,
        measurement: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        if let Some(error) = self.try_to_measure(name, measurement)? {
            report_skipped(name, &error);
        }
        Ok(())
    }

    fn try_to_measure(
        &mut self,
        name: &str,
        measurement: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<Option<Error>> {
        interrupt::check()?;
        eprintln!("  {name}");
        let outcome = measurement(self);
        if outcome.is_err() {
            interrupt::check()?;
        }
        Ok(outcome.err())
    }
}

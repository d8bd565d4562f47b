//! The second table: the log, read from its end, followed, and written.

mod crowd;
mod daemon;
mod event;
mod follower;
mod followers;
mod http;
mod memory;
mod pace;
mod percentiles;
mod report;
mod rows;
mod tally;

use anyhow::{Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::figures::Figures;
use crate::ports::Ports;
use crate::{interrupt, machine};
use rows::Row;

/// File descriptors for the largest crowd, twice over.
const FILES: u64 = 12_000;

/// What a measurement needs of those before it.
pub struct Run {
    ports: Ports,
    figures: Figures<Row>,
    has_failed: bool,
}

/// What this program does as a process of its own for a measurement of the log.
pub fn run_mode(mode: &str, arguments: &[String]) -> Option<Result<()>> {
    match mode {
        crowd::MODE => Some(crowd::run(arguments)),
        _ => None,
    }
}

/// Measures all, and prints the table.
pub fn compare(rounds: usize) -> Result<()> {
    allow_files()?;
    let mut run = Run {
        ports: Ports::new()?,
        figures: Figures::new(),
        has_failed: false,
    };
    println!("{}", machine::describe(rounds));
    for round in 1..=rounds {
        eprintln!("the log, round {round} of {rounds}");
        run.measure("one follower", followers::one)?;
        for size in &followers::SIZES {
            let what = format!("{} followers", size.followers);
            run.measure(&what, |run| followers::many(run, size))?;
        }
    }
    println!("{}", report::render(&run.figures));
    println!("{}", machine::describe(rounds));
    if run.has_failed {
        bail!("fullon's log failed in a round: see above");
    }
    Ok(())
}

impl Run {
    /// A failure costs the rows of this measurement their figures of this round; only Ctrl-C ends the run.
    fn measure(
        &mut self,
        what: &str,
        measurement: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        interrupt::check()?;
        eprintln!("  {what}");
        if let Err(error) = measurement(self) {
            interrupt::check()?;
            self.has_failed = true;
            eprintln!("\n*** FAILED: {what}: {error:#}\n");
        }
        Ok(())
    }
}

/// The processes that are started inherit it: a follower is a file to both sides.
fn allow_files() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(FILES).min(FILES);
    if limit.current.is_some_and(|current| current < wanted) {
        let limit = Rlimit {
            current: Some(wanted),
            ..limit
        };
        setrlimit(Resource::Nofile, limit)?;
    }
    Ok(())
}

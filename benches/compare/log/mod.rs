//! The third table: the log, read from its end, followed, and written.
//!
//! Two large logs are written first, in the build directory, which takes half a minute and 11 GiB of the disk for as long
//! as the run lasts. The first round lasts two and a half minutes, with the rivals and with more followers than the daemon
//! has to bear; the others one. What a program takes to start is no part of its figures, unless the row says so.

mod big_logs;
mod crowd;
pub mod daemon;
mod emitter;
mod event;
mod event_cost;
mod follower;
mod followers;
mod http;
mod never_read;
mod pace;
mod pages;
pub mod percentiles;
mod report;
mod rivals;
mod rows;
mod tally;
mod usage;
mod written;

use std::time::Duration;

use std::path::PathBuf;

use anyhow::{Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::figures::Figures;
use crate::machine::ProcessorTime;
use crate::ports::Ports;
use crate::{interrupt, left_out, machine};
use big_logs::{BigLogs, GIB};
use rows::Row;

/// File descriptors for the largest crowd, twice over.
const FILES: u64 = 12_000;

/// How long nothing is done before a round, to see what others do.
const WATCHED: Duration = Duration::from_secs(2);
/// More of them only show where the end is.
const FOLLOWERS_IN_EVERY_ROUND: usize = 1000;

/// What a measurement needs of those before it.
pub struct Run {
    ports: Ports,
    figures: Figures<Row>,
    /// What does not fit into the table.
    notes: Vec<String>,
    has_failed: bool,
}

/// What this program does as a process of its own for a measurement of the log.
pub fn run_mode(mode: &str, arguments: &[String]) -> Option<Result<()>> {
    match (mode, arguments) {
        (emitter::MODE, [order]) => Some(emitter::run(order)),
        (event_cost::MODE, _) => Some(event_cost::run(arguments)),
        (crowd::MODE, _) => Some(crowd::run(arguments)),
        _ => None,
    }
}

/// Measures all, and prints the table.
pub fn compare(rounds: usize) -> Result<()> {
    allow_files()?;
    let mut run = Run {
        ports: Ports::new()?,
        figures: Figures::new(),
        notes: Vec::new(),
        has_failed: false,
    };
    println!("{}", machine::describe(rounds));
    let logs = BigLogs::new()?;
    let mut made = None;
    for round in 1..=rounds {
        eprintln!("the log, round {round} of {rounds}");
        let others = others()?;
        run.notes.push(format!(
            "others used {others:.0} % of the machine before round {round}"
        ));
        // Before the large logs are written: a disk that was busy lets the daemon's own log wait.
        run.measure("one follower", followers::one)?;
        for size in &followers::SIZES {
            let what = format!("{} followers", size.followers);
            if size.followers <= FOLLOWERS_IN_EVERY_ROUND {
                run.measure(&what, |run| followers::many(run, size))?;
            } else if round == 1 {
                run.try_to(&what, |run| followers::many(run, size))?;
            }
        }
        let (small, large) = match &mut made {
            Some(made) => &*made,
            None => &*made.insert(large_logs(&logs)?),
        };
        run.measure("pages of 1 GiB", |run| pages::of_1_gib(run, small))?;
        if let Some(large) = large {
            run.measure("pages of 10 GiB", |run| pages::of_10_gib(run, large))?;
        }
        run.measure("a million lines", |run| pages::million(run, small))?;
        if round == 1 {
            run.try_to("supervisord's pages", |run| {
                rivals::supervisord_page(run, small)
            })?;
            run.try_to("supervisord, one follower", |run| {
                rivals::supervisord_one(run, small)
            })?;
            run.try_to("supervisord, 1000 followers", |run| {
                rivals::supervisord_many(run, small)
            })?;
            run.try_to("pm2's pages", |run| rivals::pm2_page(run, small))?;
            run.try_to("pm2, one follower", rivals::pm2_one)?;
        }
        run.measure("followers that never read", |run| {
            never_read::measure(run, &logs)
        })?;
        run.measure("the cost of an event", |run| event_cost::cost(run, &logs))?;
        run.measure("events of four threads", |run| event_cost::rate(run, &logs))?;
    }

    println!("{}", report::render(&run.figures));
    println!("{}", run.notes.join("\n"));
    println!("{}", machine::describe(rounds));
    if run.has_failed {
        bail!("fullon's log failed in a round: see above");
    }
    Ok(())
}

/// One of 1 GiB, and one of 10 GiB if there is room.
fn large_logs(logs: &BigLogs) -> Result<(PathBuf, Option<PathBuf>)> {
    eprintln!("  (writing 1 GiB and 10 GiB)");
    let small = logs.make("1-gib.log", GIB)?;
    let large = logs.make("10-gib.log", 10 * GIB);
    let large = large.inspect_err(|error| left_out("a log of 10 GiB", error));
    interrupt::check()?;
    Ok((small, large.ok()))
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

    /// What may be missing: a rival, or more than the daemon has to bear.
    fn try_to(
        &mut self,
        what: &str,
        measurement: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        interrupt::check()?;
        eprintln!("  {what}");
        if let Err(error) = measurement(self) {
            interrupt::check()?;
            left_out(what, &error);
        }
        Ok(())
    }
}

/// How much of the machine is used while nothing is measured, in percent.
fn others() -> Result<f64> {
    let before = ProcessorTime::now()?;
    interrupt::rest(WATCHED)?;
    Ok(before.percent_busy_until(&ProcessorTime::now()?))
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

//! The third table: the log, read from its end, followed, and written.
//!
//! Two large logs are written in the build directory first. This takes half a minute, and 11 GiB
//! of disk space during the run. The first round includes the rivals and more followers than the
//! daemon has to support, and lasts two and a half minutes. Further rounds last one minute. The
//! start of a program is included in a figure only if the row says so.

mod benchmark;
mod completeness;
pub mod daemon;
mod emitter;
mod event;
mod event_cost;
mod follower;
mod follower_process;
mod followers;
mod http;
mod large_logs;
mod output;
mod pace;
mod pages;
pub mod percentiles;
mod report;
mod rivals;
mod rows;
mod stalled_followers;
mod tally;
mod usage;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::machine::ProcessorTime;
use crate::progress::report_skipped;
use crate::{baseline, interrupt, machine};
use benchmark::LogBenchmark;
use large_logs::{GIB, LargeLogs};

/// Twice the file descriptors that most followers need.
const MAX_FILES: u64 = 12_000;
/// Idle time before a round, to measure what other programs use.
const OBSERVATION_TIME: Duration = Duration::from_secs(2);
/// Larger numbers only show where the limit is.
const MAX_FOLLOWERS_IN_EVERY_ROUND: usize = 1000;

/// Runs a mode of this program that the benchmark starts as its own process.
pub fn run_mode(mode: &str, arguments: &[String]) -> Option<Result<()>> {
    match (mode, arguments) {
        (emitter::MODE, [request]) => Some(emitter::run(request)),
        (event_cost::MODE, _) => Some(event_cost::run(arguments)),
        (follower_process::MODE, _) => Some(follower_process::run(arguments)),
        _ => None,
    }
}

/// Measures all, and prints the table.
pub fn compare(rounds: usize) -> Result<()> {
    raise_fd_limit()?;
    let mut run = LogBenchmark::new()?;
    println!("{}", machine::describe(rounds));
    let logs = LargeLogs::new()?;
    let mut paths = None;
    for round in 1..=rounds {
        eprintln!("the log, round {round} of {rounds}");
        let others = background_load()?;
        run.notes.push(format!(
            "others used {others:.0} % of the machine before round {round}"
        ));
        // Before the large logs are written: a busy disk would delay the daemon's own log.
        measure_followers(&mut run, round)?;
        let (small, large) = match &mut paths {
            Some(paths) => &*paths,
            None => &*paths.insert(write_large_logs(&logs)?),
        };
        run.measure("pages of 1 GiB", |run| pages::measure_1_gib(run, small))?;
        if let Some(large) = large {
            run.measure("pages of 10 GiB", |run| pages::measure_10_gib(run, large))?;
        }
        run.measure("a million lines", |run| {
            pages::measure_million_lines(run, small)
        })?;
        if round == 1 {
            measure_rivals(&mut run, small)?;
        }
        run.measure("followers that never read", |run| {
            stalled_followers::measure(run, &logs)
        })?;
        run.measure("the cost of an event", |run| {
            event_cost::measure_cost(run, &logs)
        })?;
        run.measure("events of four threads", |run| {
            event_cost::measure_rate(run, &logs)
        })?;
    }

    println!("{}", report::render(&run.figures));
    println!(
        "{}",
        baseline::compare("log", &rows::measured(&run.figures))?
    );
    println!("{}", run.notes.join("\n"));
    println!("{}", machine::describe(rounds));
    if run.has_failed {
        bail!("fullon's log failed in a round: see above");
    }
    Ok(())
}

fn measure_followers(run: &mut LogBenchmark, round: usize) -> Result<()> {
    run.measure("one follower", followers::measure_one)?;
    for count in &followers::FOLLOWER_COUNTS {
        let name = format!("{} followers", count.followers);
        if count.followers <= MAX_FOLLOWERS_IN_EVERY_ROUND {
            run.measure(&name, |run| followers::measure_many(run, count))?;
        } else if round == 1 {
            run.measure_optional(&name, |run| followers::measure_many(run, count))?;
        }
    }
    Ok(())
}

fn measure_rivals(run: &mut LogBenchmark, log: &Path) -> Result<()> {
    run.measure_optional("supervisord's pages", |run| {
        rivals::supervisord_page(run, log)
    })?;
    run.measure_optional("supervisord, one follower", |run| {
        rivals::supervisord_one_follower(run, log)
    })?;
    run.measure_optional("supervisord, 1000 followers", |run| {
        rivals::supervisord_many_followers(run, log)
    })?;
    run.measure_optional("pm2's pages", |run| rivals::pm2_page(run, log))?;
    run.measure_optional("pm2, one follower", rivals::pm2_one_follower)
}

/// Writes a log of 1 GiB, and one of 10 GiB if the disk has room.
fn write_large_logs(logs: &LargeLogs) -> Result<(PathBuf, Option<PathBuf>)> {
    eprintln!("  (writing 1 GiB and 10 GiB)");
    let small = logs.write_log("1-gib.log", GIB)?;
    let large = logs.write_log("10-gib.log", 10 * GIB);
    let large = large.inspect_err(|error| report_skipped("a log of 10 GiB", error));
    interrupt::check()?;
    Ok((small, large.ok()))
}

/// CPU time that other programs use while nothing is measured, in percent.
fn background_load() -> Result<f64> {
    let before = ProcessorTime::now()?;
    interrupt::sleep(OBSERVATION_TIME)?;
    Ok(before.percent_busy_until(&ProcessorTime::now()?))
}

/// Raises the limit of this process and its children. A follower is a file on both sides.
fn raise_fd_limit() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(MAX_FILES).min(MAX_FILES);
    if limit.current.is_some_and(|current| current < wanted) {
        let limit = Rlimit {
            current: Some(wanted),
            ..limit
        };
        setrlimit(Resource::Nofile, limit)?;
    }
    Ok(())
}

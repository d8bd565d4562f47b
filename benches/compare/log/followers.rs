//! Latency from an event to the followers of the log, and their memory.

use std::time::Instant;

use anyhow::Result;

use super::benchmark::LogBenchmark;
use super::follower_process::{FollowerProcess, LogSource};
use super::percentiles::Percentiles;
use super::rows::{LogRow, TAIL};
use super::usage::ResourceUsage;
use super::{daemon, pace};
use crate::lifecycle::Running;
use crate::rivals::FULLON;

pub const EVENTS_FOR_ONE: usize = 1000;
pub const EVENTS: usize = 500;

/// A number of followers, and the rows of its figures.
pub struct FollowerCount {
    pub followers: usize,
    pub p50: LogRow,
    pub p99: LogRow,
    pub memory: LogRow,
}

pub const FOLLOWER_COUNTS: [FollowerCount; 3] = [
    FollowerCount {
        followers: 1000,
        p50: LogRow::Last1000P50,
        p99: LogRow::Last1000P99,
        memory: LogRow::Memory1000,
    },
    FollowerCount {
        followers: 2000,
        p50: LogRow::Last2000P50,
        p99: LogRow::Last2000P99,
        memory: LogRow::Memory2000,
    },
    FollowerCount {
        followers: 5000,
        p50: LogRow::Last5000P50,
        p99: LogRow::Last5000P99,
        memory: LogRow::Memory5000,
    },
];

/// One follower, beside a `tail -f` of the same file.
pub fn measure_one(run: &mut LogBenchmark) -> Result<()> {
    let contender = daemon::contender_with_own_log(&mut run.ports)?;
    let (_running, _) = Running::start(&contender)?;
    let token = daemon::token(&contender)?;
    let stream = LogSource::ServerSentEvents {
        port: contender.admin_port,
        token: &token,
    };
    // The last line shows that tail is ready.
    let log = daemon::log_file(&contender).into();
    let tail = ["tail", "-n", "1", "-f"].map(Into::into);
    let tail = LogSource::Pipe(tail.into_iter().chain([log]).collect());
    let mut follower = FollowerProcess::connect(&contender, &stream, 1, EVENTS_FOR_ONE)?;
    let mut tail = FollowerProcess::connect(&contender, &tail, 1, EVENTS_FOR_ONE)?;
    pace::send_requests(contender.port, EVENTS_FOR_ONE)?;
    let rows = (LogRow::OneP50, LogRow::OneP99);
    add_percentiles(run, TAIL, rows, tail.report()?.all_followers);
    add_percentiles(run, FULLON, rows, follower.report()?.all_followers);
    Ok(())
}

/// Many followers, and the daemon's memory and CPU time.
pub fn measure_many(run: &mut LogBenchmark, count: &FollowerCount) -> Result<()> {
    let contender = daemon::contender_with_own_log(&mut run.ports)?;
    let (_running, _) = Running::start(&contender)?;
    let token = daemon::token(&contender)?;
    let stream = LogSource::ServerSentEvents {
        port: contender.admin_port,
        token: &token,
    };
    // The first events cost memory that is not due to the followers.
    pace::warm_up(contender.port)?;
    let usage = ResourceUsage::of_contender(&contender)?;
    let before = usage.memory_kib()?;
    let mut followers = FollowerProcess::connect(&contender, &stream, count.followers, EVENTS)?;
    let times = (usage.cpu_seconds()?, followers.cpu_seconds()?);
    let started_at = Instant::now();
    pace::send_requests(contender.port, EVENTS)?;
    let report = followers.report()?;
    run.notes.push(format!(
        "{} followers, {:.1} s: the daemon ran {:.1} s, the followers {:.1} s",
        count.followers,
        started_at.elapsed().as_secs_f64(),
        usage.cpu_seconds()? - times.0,
        followers.cpu_seconds()? - times.1
    ));
    let after = usage.memory_kib()?;
    let each = (after - before) / f64::from(u32::try_from(count.followers)?);
    run.figures.add(FULLON, count.memory, each);
    add_percentiles(run, FULLON, (count.p50, count.p99), report.last_follower);
    Ok(())
}

pub fn add_percentiles(
    run: &mut LogBenchmark,
    contender: &'static str,
    (p50, p99): (LogRow, LogRow),
    figures: Option<Percentiles>,
) {
    if let Some(figures) = figures {
        run.figures.add(contender, p50, figures.p50);
        run.figures.add(contender, p99, figures.p99);
    }
}

//! From an event to those who follow the log.

use std::time::Instant;

use anyhow::Result;

use super::crowd::{Crowd, Source};
use super::percentiles::Percentiles;
use super::rows::{Row, TAIL};
use super::usage::Usage;
use super::{Run, daemon, pace};
use crate::lifecycle::Running;
use crate::rivals::FULLON;

/// Events for one follower, and for many.
pub const EVENTS_FOR_ONE: usize = 1000;
pub const EVENTS: usize = 500;

/// How many follow, and the rows of what the last of them sees.
pub struct Size {
    pub followers: usize,
    pub p50: Row,
    pub p99: Row,
    pub memory: Row,
}

pub const SIZES: [Size; 3] = [
    Size {
        followers: 1000,
        p50: Row::Last1000P50,
        p99: Row::Last1000P99,
        memory: Row::Memory1000,
    },
    Size {
        followers: 2000,
        p50: Row::Last2000P50,
        p99: Row::Last2000P99,
        memory: Row::Memory2000,
    },
    Size {
        followers: 5000,
        p50: Row::Last5000P50,
        p99: Row::Last5000P99,
        memory: Row::Memory5000,
    },
];

/// One follower, beside a `tail -f` of the same file, which sees the same events.
pub fn one(run: &mut Run) -> Result<()> {
    let contender = daemon::contender_of_its_own(&mut run.ports)?;
    let (_running, _) = Running::start(&contender)?;
    let token = daemon::token(&contender)?;
    let stream = Source::ServerSentEvents {
        port: contender.admin_port,
        token: &token,
    };
    // With the last line, which tells that it is there.
    let log = daemon::log_file(&contender).into();
    let tail = ["tail", "-n", "1", "-f"].map(Into::into);
    let tail = Source::Pipe(tail.into_iter().chain([log]).collect());
    let mut follower = Crowd::connect(&contender, &stream, 1, EVENTS_FOR_ONE)?;
    let mut tail = Crowd::connect(&contender, &tail, 1, EVENTS_FOR_ONE)?;
    pace::requests(contender.port, EVENTS_FOR_ONE)?;
    let rows = (Row::OneP50, Row::OneP99);
    add(run, TAIL, rows, tail.report()?.each);
    add(run, FULLON, rows, follower.report()?.each);
    Ok(())
}

/// Many followers, and what they cost the daemon.
pub fn many(run: &mut Run, size: &Size) -> Result<()> {
    let contender = daemon::contender_of_its_own(&mut run.ports)?;
    let (_running, _) = Running::start(&contender)?;
    let token = daemon::token(&contender)?;
    let stream = Source::ServerSentEvents {
        port: contender.admin_port,
        token: &token,
    };
    // What one event costs for the first time is not the followers'.
    pace::warm_up(contender.port)?;
    let usage = Usage::of(&contender)?;
    let before = usage.memory()?;
    let mut crowd = Crowd::connect(&contender, &stream, size.followers, EVENTS)?;
    let times = (usage.processor_seconds()?, crowd.processor_seconds()?);
    let begun = Instant::now();
    pace::requests(contender.port, EVENTS)?;
    let report = crowd.report()?;
    run.notes.push(format!(
        "{} followers, {:.1} s: the daemon ran {:.1} s, the followers {:.1} s",
        size.followers,
        begun.elapsed().as_secs_f64(),
        usage.processor_seconds()? - times.0,
        crowd.processor_seconds()? - times.1
    ));
    let after = usage.memory()?;
    let each = (after - before) / f64::from(u32::try_from(size.followers)?);
    run.figures.add(FULLON, size.memory, each);
    add(run, FULLON, (size.p50, size.p99), report.last);
    Ok(())
}

pub fn add(
    run: &mut Run,
    contender: &'static str,
    (p50, p99): (Row, Row),
    figures: Option<Percentiles>,
) {
    if let Some(figures) = figures {
        run.figures.add(contender, p50, figures.p50);
        run.figures.add(contender, p99, figures.p99);
    }
}

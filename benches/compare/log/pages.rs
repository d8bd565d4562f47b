//! The last lines of a large log, over a kept connection, beside `tail`.

use std::ffi::OsString;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, ensure};

use super::http::Connection;
use super::rows::{Row, TAIL};
use super::usage::Usage;
use super::{Run, daemon};
use crate::contender::Contender;
use crate::figures::median;
use crate::lifecycle::Running;
use crate::rivals::FULLON;
use crate::{interrupt, left_out};

/// What is compared is measured in turns, so that others disturb both alike; within a turn again and again, because the
/// first after somebody else's is slower.
const TURNS: usize = 10;
const TIMES: usize = 30;
const LONG_TIMES: usize = 10;
const MILLION_TIMES: usize = 3;
const REQUESTS_FOR_MEMORY: usize = 200;
const MILLION: u64 = 1_000_000;
/// A line of a large log; of the daemon's own, which are behind these, a few are shorter.
const LINE: u64 = 154;
const MIB: f64 = 1024.0;
const READ: usize = 256 * 1024;

/// The last 50 lines of a log of 1 GiB, what the daemon keeps of the requests, and longer pages.
pub fn of_1_gib(run: &mut Run, log: &Path) -> Result<()> {
    let contender = daemon::contender(&mut run.ports, log)?;
    let (_running, _) = Running::start(&contender)?;
    let mut admin = daemon::admin(&contender)?;
    admin.get("/admin/status", "")?;
    let usage = Usage::of(&contender)?;
    let before = usage.memory()?;
    for _ in 0..REQUESTS_FOR_MEMORY {
        page(&mut admin, 50)?;
    }
    let grown = (usage.memory()? - before) / MIB;
    run.figures.add(FULLON, Row::PageMemory, grown);

    last_50(
        run,
        &contender,
        &mut admin,
        log,
        (Row::Last50, Row::Whole50),
    )?;

    let json = times(TURNS * TIMES, || page(&mut admin, 50))?;
    add(run, FULLON, Row::Json50, &json);
    let long = times(LONG_TIMES, || page(&mut admin, 10_000))?;
    add(run, FULLON, Row::LongPage, &long);
    let (tail, start) = beside_nothing(LONG_TIMES, || tail(10_000, log))?;
    add_net(run, TAIL, Row::LongPage, &tail, &start);
    Ok(())
}

/// The last 50 lines of a log that is larger still.
pub fn of_10_gib(run: &mut Run, log: &Path) -> Result<()> {
    let contender = daemon::contender(&mut run.ports, log)?;
    let (_running, _) = Running::start(&contender)?;
    let mut admin = daemon::admin(&contender)?;
    last_50(
        run,
        &contender,
        &mut admin,
        log,
        (Row::Last50OfMore, Row::Whole50OfMore),
    )
}

/// Net of what both need before they look at the log: tail its start, a request its way there and back.
fn last_50(
    run: &mut Run,
    contender: &Contender,
    admin: &mut Connection,
    log: &Path,
    rows: (Row, Row),
) -> Result<()> {
    let (net, whole) = rows;
    let mut health = Connection::open(contender.port, None)?;
    let (mut own, mut of_tail, mut of_start) = (Vec::new(), Vec::new(), Vec::new());
    let mut on_the_way = Vec::new();
    for _ in 0..TURNS {
        for _ in 0..TIMES {
            own.extend(times(1, || text(admin, 50))?);
            on_the_way.extend(times(1, || health.get("/health", ""))?);
        }
        let (with_log, without) = beside_nothing(TIMES, || tail(50, log))?;
        of_tail.extend(with_log);
        of_start.extend(without);
    }
    add(run, FULLON, Row::Floor, &on_the_way);
    add_net(run, FULLON, net, &own, &on_the_way);
    add(run, FULLON, whole, &own);
    add(run, TAIL, whole, &of_tail);
    add_net(run, TAIL, net, &of_tail, &of_start);
    Ok(())
}

/// A million lines as text, and the daemon's memory meanwhile.
pub fn million(run: &mut Run, log: &Path) -> Result<()> {
    let contender = daemon::contender(&mut run.ports, log)?;
    let (_running, _) = Running::start(&contender)?;
    let mut admin = daemon::admin(&contender)?;
    admin.get("/admin/status", "")?;
    let usage = Usage::of(&contender)?;
    let before = usage.memory()?;
    let (rounds, peak) = usage.peak_memory_during(|| {
        let mut rounds = Vec::new();
        for _ in 0..MILLION_TIMES {
            let begun = Instant::now();
            let bytes = text(&mut admin, MILLION)?;
            let seconds = begun.elapsed().as_secs_f64();
            rounds.push((seconds, full(bytes)?));
        }
        Ok(rounds)
    })?;
    run.figures
        .add(FULLON, Row::MillionMemory, (peak - before) / MIB);
    add_million(run, FULLON, &rounds);

    let mut rounds = Vec::new();
    for _ in 0..MILLION_TIMES {
        let begun = Instant::now();
        let bytes = tail(MILLION, log)?;
        rounds.push((begun.elapsed().as_secs_f64(), full(bytes)?));
    }
    add_million(run, TAIL, &rounds);
    Ok(())
}

/// Megabytes, of what has to be a million lines.
fn full(bytes: u64) -> Result<f64> {
    ensure!(bytes > MILLION * LINE, "only {bytes} bytes arrived");
    Ok(f64::from(u32::try_from(bytes)?) / 1e6)
}

fn add_million(run: &mut Run, contender: &'static str, rounds: &[(f64, f64)]) {
    for (seconds, megabytes) in rounds {
        run.figures.add(contender, Row::Million, seconds * 1e3);
        run.figures
            .add(contender, Row::MillionRate, megabytes / seconds);
    }
}

/// As `tail` prints it.
fn text(admin: &mut Connection, lines: u64) -> Result<u64> {
    lines_as(admin, lines, "Accept: text/plain\r\n")
}

/// As JSON.
fn page(admin: &mut Connection, lines: u64) -> Result<u64> {
    lines_as(admin, lines, "")
}

fn lines_as(admin: &mut Connection, lines: u64, headers: &str) -> Result<u64> {
    let bytes = admin.get(&format!("/admin/logs?lines={lines}"), headers)?;
    // The newest are the daemon's own, which may be shorter.
    ensure!(bytes > lines * LINE / 2, "only {bytes} bytes arrived");
    Ok(bytes)
}

/// How long a tail takes, and one that only starts and ends, in turns.
fn beside_nothing(
    count: usize,
    mut action: impl FnMut() -> Result<u64>,
) -> Result<(Vec<f64>, Vec<f64>)> {
    let (mut took, mut nothing) = (Vec::new(), Vec::new());
    for _ in 0..count {
        took.extend(times(1, &mut action)?);
        nothing.extend(times(1, || tail(50, Path::new("/dev/null")))?);
    }
    Ok((took, nothing))
}

/// How many bytes it prints into a pipe.
fn tail(lines: u64, log: &Path) -> Result<u64> {
    let lines = lines.to_string();
    output(
        [
            "tail".as_ref(),
            "-n".as_ref(),
            lines.as_ref(),
            log.as_os_str(),
        ]
        .map(OsString::from),
    )
}

fn output(command: impl IntoIterator<Item = OsString>) -> Result<u64> {
    let mut command = command.into_iter();
    let mut child = Command::new(command.next().context("an empty command")?)
        .args(command)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut stdout = child.stdout.take().context("no pipe")?;
    let mut buffer = vec![0; READ];
    let mut bytes = 0;
    loop {
        match stdout.read(&mut buffer)? {
            0 => break,
            read => bytes += read as u64,
        }
    }
    let status = child.wait()?;
    ensure!(status.success(), "it failed ({status})");
    Ok(bytes)
}

/// How long an action takes again and again, in milliseconds.
pub fn times<T>(count: usize, mut action: impl FnMut() -> Result<T>) -> Result<Vec<f64>> {
    let mut took = Vec::with_capacity(count);
    for _ in 0..count {
        interrupt::check()?;
        let begun = Instant::now();
        action()?;
        took.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    Ok(took)
}

pub fn add(run: &mut Run, contender: &'static str, row: Row, took: &[f64]) {
    if let Some(median) = median(took) {
        run.figures.add(contender, row, median);
    }
}

/// Of a program that is started each time: what it takes longer than when there is nothing to do, as the median of the
/// differences between neighbours.
fn add_net(run: &mut Run, contender: &'static str, row: Row, with_log: &[f64], without: &[f64]) {
    let neighbours = with_log.iter().zip(without);
    let differences: Vec<f64> = neighbours.map(|(with, without)| with - without).collect();
    match median(&differences) {
        Some(net) if net > 0.0 => run.figures.add(contender, row, net),
        net => {
            let error = anyhow!("{net:?} ms is not distinct from doing nothing");
            left_out(&format!("{contender} in `{}`", row.label()), &error);
        }
    }
}

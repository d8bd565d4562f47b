//! The last lines of a large log, over a kept connection, compared with `tail`.

use std::ffi::OsString;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, ensure};

use super::benchmark::LogBenchmark;
use super::daemon;
use super::http::Connection;
use super::rows::{LogRow, TAIL};
use super::usage::ResourceUsage;
use crate::contender::Contender;
use crate::figures::median;
use crate::interrupt;
use crate::lifecycle::Running;
use crate::progress::report_skipped;
use crate::rivals::FULLON;

/// Contenders take turns, so that disturbances affect all alike. Each turn repeats the measurement,
/// because the first one after another contender is slower.
const TURNS: usize = 10;
const REPEATS: usize = 30;
const LONG_REPEATS: usize = 10;
const MILLION_REPEATS: usize = 3;
const REQUESTS_FOR_MEMORY: usize = 200;
const MILLION: u64 = 1_000_000;
/// Length of a line of a large log. Some of the daemon's own lines at the end are shorter.
const LINE_LENGTH: u64 = 154;
const MIB: f64 = 1024.0;
const BUFFER_SIZE: usize = 256 * 1024;

/// The last 50 lines of a log of 1 GiB, the memory that requests leave behind, and longer pages.
pub fn measure_1_gib(run: &mut LogBenchmark, log: &Path) -> Result<()> {
    let contender = daemon::contender(&mut run.ports, log)?;
    let (_running, _) = Running::start(&contender)?;
    let mut admin = daemon::admin(&contender)?;
    admin.get("/admin/status", "")?;
    let usage = ResourceUsage::of_contender(&contender)?;
    let before = usage.memory_kib()?;
    for _ in 0..REQUESTS_FOR_MEMORY {
        get_json(&mut admin, 50)?;
    }
    let grown = (usage.memory_kib()? - before) / MIB;
    run.figures.add(FULLON, LogRow::PageMemory, grown);

    measure_last_50_lines(
        run,
        &contender,
        &mut admin,
        log,
        (LogRow::Last50, LogRow::Total50),
    )?;

    let json = time_repeated(TURNS * REPEATS, || get_json(&mut admin, 50))?;
    add_median(run, FULLON, LogRow::Json50, &json);
    let long = time_repeated(LONG_REPEATS, || get_json(&mut admin, 10_000))?;
    add_median(run, FULLON, LogRow::LongPage, &long);
    let (tail, start) = time_with_empty_baseline(LONG_REPEATS, || run_tail(10_000, log))?;
    add_net_median(run, TAIL, LogRow::LongPage, &tail, &start);
    Ok(())
}

/// The last 50 lines of a log of 10 GiB.
pub fn measure_10_gib(run: &mut LogBenchmark, log: &Path) -> Result<()> {
    let contender = daemon::contender(&mut run.ports, log)?;
    let (_running, _) = Running::start(&contender)?;
    let mut admin = daemon::admin(&contender)?;
    measure_last_50_lines(
        run,
        &contender,
        &mut admin,
        log,
        (LogRow::Last50Of10Gib, LogRow::Total50Of10Gib),
    )
}

/// Gross figures, and figures without the program start of tail and the round trip of a request.
fn measure_last_50_lines(
    run: &mut LogBenchmark,
    contender: &Contender,
    admin: &mut Connection,
    log: &Path,
    rows: (LogRow, LogRow),
) -> Result<()> {
    let (net, whole) = rows;
    let mut health = Connection::open(contender.port, None)?;
    let (mut own, mut tail, mut start) = (Vec::new(), Vec::new(), Vec::new());
    let mut round_trips = Vec::new();
    for _ in 0..TURNS {
        for _ in 0..REPEATS {
            own.extend(time_repeated(1, || get_text(admin, 50))?);
            round_trips.extend(time_repeated(1, || health.get("/health", ""))?);
        }
        let (with_log, without) = time_with_empty_baseline(REPEATS, || run_tail(50, log))?;
        tail.extend(with_log);
        start.extend(without);
    }
    add_median(run, FULLON, LogRow::RoundTrip, &round_trips);
    add_net_median(run, FULLON, net, &own, &round_trips);
    add_median(run, FULLON, whole, &own);
    add_median(run, TAIL, whole, &tail);
    add_net_median(run, TAIL, net, &tail, &start);
    Ok(())
}

/// A million lines as text, and the daemon's peak memory meanwhile.
pub fn measure_million_lines(run: &mut LogBenchmark, log: &Path) -> Result<()> {
    let contender = daemon::contender(&mut run.ports, log)?;
    let (_running, _) = Running::start(&contender)?;
    let mut admin = daemon::admin(&contender)?;
    admin.get("/admin/status", "")?;
    let usage = ResourceUsage::of_contender(&contender)?;
    let before = usage.memory_kib()?;
    let (rounds, peak) = usage.peak_memory_kib(|| {
        let mut rounds = Vec::new();
        for _ in 0..MILLION_REPEATS {
            let started_at = Instant::now();
            let bytes = get_text(&mut admin, MILLION)?;
            let seconds = started_at.elapsed().as_secs_f64();
            rounds.push((seconds, checked_megabytes(bytes)?));
        }
        Ok(rounds)
    })?;
    run.figures
        .add(FULLON, LogRow::MillionMemory, (peak - before) / MIB);
    add_million(run, FULLON, &rounds);

    let mut rounds = Vec::new();
    for _ in 0..MILLION_REPEATS {
        let started_at = Instant::now();
        let bytes = run_tail(MILLION, log)?;
        rounds.push((
            started_at.elapsed().as_secs_f64(),
            checked_megabytes(bytes)?,
        ));
    }
    add_million(run, TAIL, &rounds);
    Ok(())
}

/// Converts a size to MB. Fails if it is less than a million lines.
fn checked_megabytes(bytes: u64) -> Result<f64> {
    ensure!(bytes > MILLION * LINE_LENGTH, "only {bytes} bytes arrived");
    Ok(f64::from(u32::try_from(bytes)?) / 1e6)
}

fn add_million(run: &mut LogBenchmark, contender: &'static str, rounds: &[(f64, f64)]) {
    for (seconds, megabytes) in rounds {
        run.figures.add(contender, LogRow::Million, seconds * 1e3);
        run.figures
            .add(contender, LogRow::MillionRate, megabytes / seconds);
    }
}

/// Gets lines as text, as `tail` prints them.
fn get_text(admin: &mut Connection, lines: u64) -> Result<u64> {
    get_lines(admin, lines, "Accept: text/plain\r\n")
}

fn get_json(admin: &mut Connection, lines: u64) -> Result<u64> {
    get_lines(admin, lines, "")
}

fn get_lines(admin: &mut Connection, lines: u64, headers: &str) -> Result<u64> {
    let bytes = admin.get(&format!("/admin/logs?lines={lines}"), headers)?;
    // The newest lines are the daemon's own, which may be shorter.
    ensure!(
        bytes > lines * LINE_LENGTH / 2,
        "only {bytes} bytes arrived"
    );
    Ok(bytes)
}

/// Times the action and a tail of an empty file in turns.
fn time_with_empty_baseline(
    count: usize,
    mut action: impl FnMut() -> Result<u64>,
) -> Result<(Vec<f64>, Vec<f64>)> {
    let (mut took, mut nothing) = (Vec::new(), Vec::new());
    for _ in 0..count {
        took.extend(time_repeated(1, &mut action)?);
        nothing.extend(time_repeated(1, || run_tail(50, Path::new("/dev/null")))?);
    }
    Ok((took, nothing))
}

/// Runs tail. Returns the number of bytes that it prints.
fn run_tail(lines: u64, log: &Path) -> Result<u64> {
    let lines = lines.to_string();
    count_output(
        [
            "tail".as_ref(),
            "-n".as_ref(),
            lines.as_ref(),
            log.as_os_str(),
        ]
        .map(OsString::from),
    )
}

fn count_output(command: impl IntoIterator<Item = OsString>) -> Result<u64> {
    let mut command = command.into_iter();
    let mut child = Command::new(command.next().context("an empty command")?)
        .args(command)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut stdout = child.stdout.take().context("no pipe")?;
    let mut buffer = vec![0; BUFFER_SIZE];
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

/// Times each repetition of an action, in milliseconds.
pub fn time_repeated<T>(count: usize, mut action: impl FnMut() -> Result<T>) -> Result<Vec<f64>> {
    let mut took = Vec::with_capacity(count);
    for _ in 0..count {
        interrupt::check()?;
        let started_at = Instant::now();
        action()?;
        took.push(started_at.elapsed().as_secs_f64() * 1e3);
    }
    Ok(took)
}

pub fn add_median(run: &mut LogBenchmark, contender: &'static str, row: LogRow, took: &[f64]) {
    if let Some(median) = median(took) {
        run.figures.add(contender, row, median);
    }
}

/// Adds the median of the differences between neighbouring measurements with and without the log.
fn add_net_median(
    run: &mut LogBenchmark,
    contender: &'static str,
    row: LogRow,
    with_log: &[f64],
    without: &[f64],
) {
    let neighbours = with_log.iter().zip(without);
    let differences: Vec<f64> = neighbours.map(|(with, without)| with - without).collect();
    match median(&differences) {
        Some(net) if net > 0.0 => run.figures.add(contender, row, net),
        net => {
            let error = anyhow!("{net:?} ms is not distinct from doing nothing");
            report_skipped(&format!("{contender} in `{}`", row.label()), &error);
        }
    }
}

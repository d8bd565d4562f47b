//! Rivals that keep the log of a program: how each is started, read and followed.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::benchmark::LogBenchmark;
use super::emitter;
use super::follower_process::{FollowerProcess, LogSource, SUPERVISED_PROGRAM};
use super::followers::{self, EVENTS, EVENTS_FOR_ONE};
use super::http::{self, Connection};
use super::pages;
use super::rows::{LogRow, PM2, SUPERVISORD};
use super::usage::ResourceUsage;
use crate::contender::{Contender, Measurements};
use crate::lifecycle::{Running, wait_for_command};
use crate::ports::Ports;
use crate::rivals::{Commands, ContenderBuilder};
use crate::{interrupt, programs};

/// supervisord's name of the program with the large log.
const ARCHIVE: &str = "archive";
/// Bytes of 50 lines as long as the daemon's.
const FIFTY_LINES: u64 = 50 * 150;
const REPEATS: usize = 200;
const PM2_REPEATS: usize = 7;
const FOLLOWERS: usize = 1000;
/// supervisord returns before it listens, and before its program has printed a line.
const READY_TIMEOUT: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// `pm2 logs` does not report when it is connected.
const CONNECT_TIME: Duration = Duration::from_secs(3);

/// The last lines of a large log, by XML-RPC on a kept connection.
pub fn supervisord_page(run: &mut LogBenchmark, log: &Path) -> Result<()> {
    let contender = supervisord_contender(&mut run.ports, log)?;
    let _running = start_supervisord(&contender)?;
    let call = format!(
        "<?xml version=\"1.0\"?><methodCall><methodName>supervisor.readProcessStdoutLog</methodName><params>\
         <param><value><string>{ARCHIVE}</string></value></param>\
         <param><value><int>-{FIFTY_LINES}</int></value></param>\
         <param><value><int>0</int></value></param></params></methodCall>"
    );
    let mut rpc = Connection::open(contender.port, None)?;
    let took = pages::time_repeated(REPEATS, || {
        let bytes = rpc.post("/RPC2", "text/xml", &call)?;
        ensure!(bytes > FIFTY_LINES, "only {bytes} bytes arrived");
        Ok(())
    })?;
    pages::add_median(run, SUPERVISORD, LogRow::Last50, &took);
    Ok(())
}

pub fn supervisord_one_follower(run: &mut LogBenchmark, log: &Path) -> Result<()> {
    let contender = supervisord_contender(&mut run.ports, log)?;
    let _running = start_supervisord(&contender)?;
    let port = contender.port;
    let mut followers =
        FollowerProcess::connect(&contender, &LogSource::Logtail { port }, 1, EVENTS_FOR_ONE)?;
    emitter::request_events(&contender, EVENTS_FOR_ONE)?;
    let rows = (LogRow::OneP50, LogRow::OneP99);
    followers::add_percentiles(run, SUPERVISORD, rows, followers.report()?.all_followers);
    Ok(())
}

pub fn supervisord_many_followers(run: &mut LogBenchmark, log: &Path) -> Result<()> {
    let contender = supervisord_contender(&mut run.ports, log)?;
    let _running = start_supervisord(&contender)?;
    let port = contender.port;
    let usage = ResourceUsage::of_contender(&contender)?;
    let before = usage.memory_kib()?;
    let mut followers =
        FollowerProcess::connect(&contender, &LogSource::Logtail { port }, FOLLOWERS, EVENTS)?;
    let connected = usage.memory_kib()?;
    emitter::request_events(&contender, EVENTS)?;
    let grown = connected - before;
    let each = grown / f64::from(u32::try_from(FOLLOWERS)?);
    // Recorded even if not all events arrive.
    run.figures.add(SUPERVISORD, LogRow::Memory1000, each);
    let rows = (LogRow::Last1000P50, LogRow::Last1000P99);
    followers::add_percentiles(run, SUPERVISORD, rows, followers.report()?.last_follower);
    Ok(())
}

/// The last lines of a large log by `pm2 logs`. The start of Node takes most of this time.
pub fn pm2_page(run: &mut LogBenchmark, log: &Path) -> Result<()> {
    let contender = pm2_contender(&mut run.ports, log)?;
    let _running = Running::start_without_probe(&contender)?;
    let command = pm2_logs_command(&contender, "50", &["--nostream"])?;
    let took = pages::time_repeated(PM2_REPEATS, || {
        let status = wait_for_command(&mut contender.command(&command)?.spawn()?)?;
        ensure!(status.success(), contender.output_tail());
        Ok(())
    })?;
    pages::add_median(run, PM2, LogRow::Total50, &took);
    Ok(())
}

pub fn pm2_one_follower(run: &mut LogBenchmark) -> Result<()> {
    let log = tempfile::NamedTempFile::new()?;
    let contender = pm2_contender(&mut run.ports, log.path())?;
    let _running = Running::start_without_probe(&contender)?;
    let command = LogSource::Pipe(pm2_logs_command(&contender, "1", &[])?);
    let mut followers = FollowerProcess::connect(&contender, &command, 1, EVENTS_FOR_ONE)?;
    interrupt::sleep(CONNECT_TIME)?;
    emitter::request_events(&contender, EVENTS_FOR_ONE)?;
    let rows = (LogRow::OneP50, LogRow::OneP99);
    followers::add_percentiles(run, PM2, rows, followers.report()?.all_followers);
    Ok(())
}

fn supervisord_contender(ports: &mut Ports, log: &Path) -> Result<Contender> {
    let daemon = programs::find_program("supervisord")?;
    let builder = ContenderBuilder::new(SUPERVISORD, ports)?;
    let command = emitter::command_line(emitter::request_file(builder.directory()).into())?;
    let template = include_str!("../../rivals/supervisord-log.conf")
        .replace("@EMITTER@", &command.join(" ".as_ref()).to_string_lossy())
        .replace("@LOG@", &log.to_string_lossy());
    let settings = builder.write_file("supervisord.conf", &template)?;
    let commands = Commands {
        start: vec![daemon, "-c".into(), settings],
        stop: None,
        status: None,
    };
    Ok(builder.build(Measurements::Lifecycle, commands))
}

/// Starts supervisord. Waits until it listens and its program has printed its first line.
fn start_supervisord(contender: &Contender) -> Result<Running<'_>> {
    let running = Running::start_without_probe(contender)?;
    let log = contender.directory().join("events.log");
    let started_at = Instant::now();
    while http::connect(contender.port).is_err()
        || !fs::metadata(&log).is_ok_and(|log| log.len() > 0)
    {
        ensure!(
            started_at.elapsed() < READY_TIMEOUT,
            contender.output_tail()
        );
        interrupt::sleep(POLL_INTERVAL)?;
    }
    Ok(running)
}

fn pm2_contender(ports: &mut Ports, log: &Path) -> Result<Contender> {
    programs::find_program("node")?;
    let program = programs::pm2()?;
    let builder = ContenderBuilder::new(PM2, ports)?;
    let [emitter, mode, order] =
        emitter::command_line(emitter::request_file(builder.directory()).into())?;
    let mut start: Vec<OsString> = vec![program, "start".into(), emitter];
    start.extend(
        [
            "--name",
            SUPERVISED_PROGRAM,
            "--interpreter",
            "none",
            "--no-autorestart",
            "--output",
        ]
        .map(Into::into),
    );
    start.extend([log.into(), "--".into(), mode, order]);
    let commands = Commands {
        start,
        stop: None,
        status: None,
    };
    Ok(builder.build(Measurements::Lifecycle, commands))
}

fn pm2_logs_command(contender: &Contender, lines: &str, more: &[&str]) -> Result<Vec<OsString>> {
    let program = contender.start.first().context("an empty command")?;
    let arguments = ["logs", SUPERVISED_PROGRAM, "--raw", "--lines", lines];
    let arguments = arguments.iter().chain(more).map(Into::into);
    Ok([program.clone()].into_iter().chain(arguments).collect())
}

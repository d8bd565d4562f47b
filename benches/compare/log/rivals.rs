//! Others who keep the log of a program: how each is started, read and followed.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::crowd::{Crowd, PROGRAM, Source};
use super::followers::{self, EVENTS, EVENTS_FOR_ONE};
use super::http::{self, Connection};
use super::pages;
use super::rows::{PM2, Row, SUPERVISORD};
use super::usage::Usage;
use super::{Run, emitter};
use crate::contender::{Contender, Measured};
use crate::lifecycle::{Running, end_of};
use crate::ports::Ports;
use crate::rivals::{Blank, Verbs};
use crate::{interrupt, programs};

/// The program with the large log, as supervisord calls it.
const ARCHIVE: &str = "archive";
/// The lines of the daemon's log are as long.
const FIFTY_LINES: u64 = 50 * 150;
const TIMES: usize = 200;
const PM2_TIMES: usize = 7;
const FOLLOWERS: usize = 1000;
/// supervisord and pm2 return before they listen, and before a program has said something.
const READY_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// `pm2 logs` tells nobody when it is connected.
const CONNECTED_AFTER: Duration = Duration::from_secs(3);

/// The last lines of a large log, over its XML-RPC on a kept connection.
pub fn supervisord_page(run: &mut Run, log: &Path) -> Result<()> {
    let contender = supervisord(&mut run.ports, log)?;
    let _running = launch(&contender)?;
    let call = format!(
        "<?xml version=\"1.0\"?><methodCall><methodName>supervisor.readProcessStdoutLog</methodName><params>\
         <param><value><string>{ARCHIVE}</string></value></param>\
         <param><value><int>-{FIFTY_LINES}</int></value></param>\
         <param><value><int>0</int></value></param></params></methodCall>"
    );
    let mut rpc = Connection::open(contender.port, None)?;
    let took = pages::times(TIMES, || {
        let bytes = rpc.post("/RPC2", "text/xml", &call)?;
        ensure!(bytes > FIFTY_LINES, "only {bytes} bytes arrived");
        Ok(())
    })?;
    pages::add(run, SUPERVISORD, Row::Last50, &took);
    Ok(())
}

/// Followers over HTTP.
pub fn supervisord_one(run: &mut Run, log: &Path) -> Result<()> {
    let contender = supervisord(&mut run.ports, log)?;
    let _running = launch(&contender)?;
    let port = contender.port;
    let mut crowd = Crowd::connect(&contender, &Source::Logtail { port }, 1, EVENTS_FOR_ONE)?;
    emitter::order(&contender, EVENTS_FOR_ONE)?;
    let rows = (Row::OneP50, Row::OneP99);
    followers::add(run, SUPERVISORD, rows, crowd.report()?.each);
    Ok(())
}

pub fn supervisord_many(run: &mut Run, log: &Path) -> Result<()> {
    let contender = supervisord(&mut run.ports, log)?;
    let _running = launch(&contender)?;
    let port = contender.port;
    let usage = Usage::of(&contender)?;
    let before = usage.memory()?;
    let mut crowd = Crowd::connect(&contender, &Source::Logtail { port }, FOLLOWERS, EVENTS)?;
    let connected = usage.memory()?;
    emitter::order(&contender, EVENTS)?;
    let grown = connected - before;
    let each = grown / f64::from(u32::try_from(FOLLOWERS)?);
    // Told even when not all events arrive.
    run.figures.add(SUPERVISORD, Row::Memory1000, each);
    let rows = (Row::Last1000P50, Row::Last1000P99);
    followers::add(run, SUPERVISORD, rows, crowd.report()?.last);
    Ok(())
}

/// The last lines of a large log by its command, most of which is the start of Node: by far too much to tell the rest.
pub fn pm2_page(run: &mut Run, log: &Path) -> Result<()> {
    let contender = pm2(&mut run.ports, log)?;
    let _running = Running::launch(&contender)?;
    let command = pm2_logs(&contender, "50", &["--nostream"])?;
    let took = pages::times(PM2_TIMES, || {
        let status = end_of(&mut contender.command(&command)?.spawn()?)?;
        ensure!(status.success(), contender.said());
        Ok(())
    })?;
    pages::add(run, PM2, Row::Whole50, &took);
    Ok(())
}

pub fn pm2_one(run: &mut Run) -> Result<()> {
    let log = tempfile::NamedTempFile::new()?;
    let contender = pm2(&mut run.ports, log.path())?;
    let _running = Running::launch(&contender)?;
    let command = Source::Pipe(pm2_logs(&contender, "1", &[])?);
    let mut crowd = Crowd::connect(&contender, &command, 1, EVENTS_FOR_ONE)?;
    interrupt::rest(CONNECTED_AFTER)?;
    emitter::order(&contender, EVENTS_FOR_ONE)?;
    let rows = (Row::OneP50, Row::OneP99);
    followers::add(run, PM2, rows, crowd.report()?.each);
    Ok(())
}

fn supervisord(ports: &mut Ports, log: &Path) -> Result<Contender> {
    let daemon = programs::installed("supervisord")?;
    let blank = Blank::new(SUPERVISORD, ports)?;
    let command = emitter::command(emitter::order_in(blank.directory()).into())?;
    let template = include_str!("../../rivals/supervisord-log.conf")
        .replace("@EMITTER@", &command.join(" ".as_ref()).to_string_lossy())
        .replace("@LOG@", &log.to_string_lossy());
    let settings = blank.write("supervisord.conf", &template)?;
    let verbs = Verbs {
        start: vec![daemon, "-c".into(), settings],
        stop: None,
        status: None,
    };
    Ok(blank.contender(Measured::Lifecycle, verbs))
}

/// Starts supervisord, and waits until it listens and its program has printed its first line.
fn launch(contender: &Contender) -> Result<Running<'_>> {
    let running = Running::launch(contender)?;
    let log = contender.directory().join("events.log");
    let begun = Instant::now();
    while http::connect(contender.port).is_err()
        || !fs::metadata(&log).is_ok_and(|log| log.len() > 0)
    {
        ensure!(begun.elapsed() < READY_WITHIN, contender.said());
        interrupt::rest(LOOK_EVERY)?;
    }
    Ok(running)
}

fn pm2(ports: &mut Ports, log: &Path) -> Result<Contender> {
    programs::installed("node")?;
    let program = programs::pm2()?;
    let blank = Blank::new(PM2, ports)?;
    let [emitter, mode, order] = emitter::command(emitter::order_in(blank.directory()).into())?;
    let mut start: Vec<OsString> = vec![program, "start".into(), emitter];
    start.extend(
        [
            "--name",
            PROGRAM,
            "--interpreter",
            "none",
            "--no-autorestart",
            "--output",
        ]
        .map(Into::into),
    );
    start.extend([log.into(), "--".into(), mode, order]);
    let verbs = Verbs {
        start,
        stop: None,
        status: None,
    };
    Ok(blank.contender(Measured::Lifecycle, verbs))
}

fn pm2_logs(contender: &Contender, lines: &str, more: &[&str]) -> Result<Vec<OsString>> {
    let program = contender.start.first().context("an empty command")?;
    let arguments = ["logs", PROGRAM, "--raw", "--lines", lines];
    let arguments = arguments.iter().chain(more).map(Into::into);
    Ok([program.clone()].into_iter().chain(arguments).collect())
}

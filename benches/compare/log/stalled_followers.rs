//! Clients that ask for the stream and never read it, while much is logged.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::big_logs::{BigLogs, block};
use super::crowd::{Crowd, Source};
use super::followers;
use super::http::{self, Connection};
use super::rows::Row;
use super::usage::Usage;
use super::{Run, daemon, event, pace};
use crate::lifecycle::Running;
use crate::rivals::{self, FULLON};

const NEVER_READING: usize = 20;
const LOGGED: usize = 300_000_000;
const WRITE: usize = 64 * 1024;
/// Makes 300 MB take ten seconds.
const PAUSE: Duration = Duration::from_micros(2180);
const EVENTS: usize = 200;
const EVENT_PAUSE: Duration = Duration::from_millis(50);
/// Whoever moves the log away makes a new one within this time.
const RETRY: Duration = Duration::from_millis(1);
const RETRIES: u32 = 1000;
const MIB: f64 = 1024.0;

pub fn measure(run: &mut Run, logs: &BigLogs) -> Result<()> {
    let directory = logs.directory(2 * LOGGED as u64)?;
    let log = directory.path().join("daemon.log");
    // Rotated as it comes.
    let contender = rivals::fullon_with(&mut run.ports, [("LOG_FILE", log.clone().into())])?;
    let (_running, _) = Running::start(&contender)?;
    let token = daemon::token(&contender)?;
    pace::warm_up(contender.port)?;
    let stream = Source::ServerSentEvents {
        port: contender.admin_port,
        token: &token,
    };
    let usage = Usage::of(&contender)?;
    let before = usage.memory()?;
    let mut crowd = Crowd::connect(&contender, &stream, 1, EVENTS)?;
    let mut never_reading = Vec::new();
    for _ in 0..NEVER_READING {
        let path = "/admin/logs/stream?lines=0";
        let request = http::request("GET", path, contender.admin_port, Some(&token));
        let mut connection = http::connect(contender.admin_port)?;
        connection.write_all(format!("{request}\r\n").as_bytes())?;
        never_reading.push(connection);
    }
    let (report, peak) = usage.peak_memory_during(|| {
        thread::scope(|scope| {
            let writer = scope.spawn(|| write(&log));
            let mut public = Connection::open(contender.port, None)?;
            let paced = pace::evenly(EVENTS, EVENT_PAUSE, |number| {
                let header = format!("X-Request-Id: {}\r\n", event::name(number));
                public.get("/", &header).map(drop)
            });
            writer.join().ok().context("the writer panicked")??;
            paced?;
            crowd.report()
        })
    })?;
    drop(never_reading);
    run.figures
        .add(FULLON, Row::NeverReadMemory, (peak - before) / MIB);
    let rows = (Row::NeverReadP50, Row::NeverReadP99);
    followers::add(run, FULLON, rows, report.each);
    Ok(())
}

/// Lines from outside, each write to whatever file has the name now.
fn write(log: &Path) -> Result<()> {
    let lines = block();
    let line = memchr::memchr(b'\n', &lines).context("no line")? + 1;
    let lines = &lines[..WRITE / line * line];
    pace::evenly(LOGGED / lines.len(), PAUSE, |_| {
        let mut tries = 0;
        let mut file = loop {
            match OpenOptions::new().append(true).open(log) {
                Ok(file) => break file,
                Err(error) if error.kind() == ErrorKind::NotFound && tries < RETRIES => {
                    tries += 1;
                    thread::sleep(RETRY);
                }
                Err(error) => return Err(error.into()),
            }
        };
        Ok(file.write_all(lines)?)
    })
}

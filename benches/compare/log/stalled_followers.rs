//! Followers that never read their stream while much is logged.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::benchmark::LogBenchmark;
use super::follower_process::{FollowerProcess, LogSource};
use super::followers;
use super::http::{self, Connection};
use super::large_logs::{LargeLogs, lines_of_one_second};
use super::rows::LogRow;
use super::usage::ResourceUsage;
use super::{daemon, event, pace};
use crate::lifecycle::Running;
use crate::rivals::{self, FULLON};

const STALLED_FOLLOWERS: usize = 20;
const LOGGED_BYTES: usize = 300_000_000;
const WRITE_SIZE: usize = 64 * 1024;
/// Stretches 300 MB over ten seconds.
const WRITE_INTERVAL: Duration = Duration::from_micros(2180);
const EVENTS: usize = 200;
const EVENT_INTERVAL: Duration = Duration::from_millis(50);
/// Between two attempts to open the log while it is rotated.
const RETRY_DELAY: Duration = Duration::from_millis(1);
const RETRIES: u32 = 1000;
const MIB: f64 = 1024.0;

pub fn measure(run: &mut LogBenchmark, logs: &LargeLogs) -> Result<()> {
    let directory = logs.create_directory(2 * LOGGED_BYTES as u64)?;
    let log = directory.path().join("daemon.log");
    // Rotated with the default settings.
    let contender = rivals::fullon_with(&mut run.ports, [("LOG_FILE", log.clone().into())])?;
    let (_running, _) = Running::start(&contender)?;
    let token = daemon::token(&contender)?;
    pace::warm_up(contender.port)?;
    let stream = LogSource::ServerSentEvents {
        port: contender.admin_port,
        token: &token,
    };
    let usage = ResourceUsage::of_contender(&contender)?;
    let before = usage.memory_kib()?;
    let mut followers = FollowerProcess::connect(&contender, &stream, 1, EVENTS)?;
    let mut stalled = Vec::new();
    for _ in 0..STALLED_FOLLOWERS {
        let path = "/admin/logs/stream?lines=0";
        let request = http::request_headers("GET", path, contender.admin_port, Some(&token));
        let mut connection = http::connect(contender.admin_port)?;
        connection.write_all(format!("{request}\r\n").as_bytes())?;
        stalled.push(connection);
    }
    let (report, peak) = usage.peak_memory_kib(|| {
        thread::scope(|scope| {
            let writer = scope.spawn(|| write_lines(&log));
            let mut public = Connection::open(contender.port, None)?;
            let paced = pace::run_evenly(EVENTS, EVENT_INTERVAL, |number| {
                let header = format!("X-Request-Id: {}\r\n", event::request_id(number));
                public.get("/", &header).map(drop)
            });
            writer.join().ok().context("the writer panicked")??;
            paced?;
            followers.report()
        })
    })?;
    drop(stalled);
    run.figures
        .add(FULLON, LogRow::StalledMemory, (peak - before) / MIB);
    let rows = (LogRow::StalledP50, LogRow::StalledP99);
    followers::add_percentiles(run, FULLON, rows, report.all_followers);
    Ok(())
}

/// Writes lines to the log from outside the daemon. Opens the file again for each write.
fn write_lines(log: &Path) -> Result<()> {
    let lines = lines_of_one_second();
    let line = memchr::memchr(b'\n', &lines).context("no line")? + 1;
    let lines = &lines[..WRITE_SIZE / line * line];
    pace::run_evenly(LOGGED_BYTES / lines.len(), WRITE_INTERVAL, |_| {
        let mut tries = 0;
        let mut file = loop {
            match OpenOptions::new().append(true).open(log) {
                Ok(file) => break file,
                Err(error) if error.kind() == ErrorKind::NotFound && tries < RETRIES => {
                    tries += 1;
                    thread::sleep(RETRY_DELAY);
                }
                Err(error) => return Err(error.into()),
            }
        };
        Ok(file.write_all(lines)?)
    })
}

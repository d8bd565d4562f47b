//! What an event costs the thread that logs it, and how many a second four threads can log.
//!
//! Each way to log is a process of its own, because a process has one subscriber: a mode of the benchmark's own program.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use bytesize::ByteSize;
use fullon_master_api::config::{LogFormat, LogSettings, LogTarget};
use fullon_master_api::logs::{self, InstalledLog, LogFile};
use hyper::Method;
use tracing_appender::non_blocking::WorkerGuard;

use super::big_logs::BigLogs;
use super::rows::{NON_BLOCKING, PLAIN_FILE, Row};
use super::{Run, written};
use crate::figures::median;
use crate::rivals::FULLON;

/// The first argument that asks for this mode; what is measured, the way to log, and the file follow.
pub const MODE: &str = "log-events";
const COST: &str = "cost";
const RATE: &str = "rate";

/// Half of what waits at most, so that nobody waits for the disk.
const BURST: usize = 8_000;
const BURSTS: usize = 25;
pub const THREADS: usize = 4;
pub const EVENTS_OF_A_THREAD: usize = 25_000;
const SETTLED_WITHIN: Duration = Duration::from_secs(30);
/// A file that does not grow for so long is complete.
const QUIET: Duration = Duration::from_millis(20);
const LOG: &str = "daemon.log";
const NEEDED: u64 = 200_000_000;

pub fn cost(run: &mut Run, logs: &BigLogs) -> Result<()> {
    for kind in [FULLON, PLAIN_FILE, NON_BLOCKING] {
        let directory = logs.directory(NEEDED)?;
        let figure = in_a_process(COST, kind, &directory.path().join(LOG))?;
        run.figures.add(kind, Row::EventCost, figure);
    }
    Ok(())
}

pub fn rate(run: &mut Run, logs: &BigLogs) -> Result<()> {
    for kind in [PLAIN_FILE, FULLON] {
        let directory = logs.directory(NEEDED)?;
        let log = directory.path().join(LOG);
        let figure = in_a_process(RATE, kind, &log)?;
        let files = written::verify(&log).with_context(|| kind.to_owned())?;
        run.figures.add(kind, Row::EventRate, figure);
        run.figures.add(kind, Row::EventFiles, files);
    }
    Ok(())
}

fn in_a_process(what: &str, kind: &str, log: &Path) -> Result<f64> {
    let output = Command::new(std::env::current_exe()?)
        .args([MODE, what, kind])
        .arg(log)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "{kind} failed ({})", output.status);
    let text = String::from_utf8(output.stdout)?;
    text.trim().parse().with_context(|| text.clone())
}

/// What such a process does: it prints one number.
pub fn run(arguments: &[String]) -> Result<()> {
    let [what, kind, path] = arguments else {
        bail!("what to measure, the way to log, and a file are needed");
    };
    let log = Log::install(kind, Path::new(path))?;
    let figure = match what.as_str() {
        COST => {
            let mut costs = Vec::with_capacity(BURSTS);
            for _ in 0..BURSTS {
                costs.push(burst());
                log.settle(Path::new(path))?;
            }
            median(&costs).context("no bursts")?
        }
        RATE => {
            let begun = Instant::now();
            thread::scope(|scope| {
                for name in written::NAMES {
                    scope.spawn(move || many(name));
                }
            });
            log.settle(Path::new(path))?;
            let events = u32::try_from(THREADS * EVENTS_OF_A_THREAD)?;
            f64::from(events) / begun.elapsed().as_secs_f64()
        }
        _ => bail!("`{what}` is nothing that is measured"),
    };
    drop(log);
    println!("{figure}");
    Ok(())
}

/// The log of such a process.
enum Log {
    Fullon(InstalledLog),
    Plain,
    NonBlocking(#[expect(dead_code, reason = "dropped last, it ends the writer")] WorkerGuard),
}

impl Log {
    fn install(kind: &str, path: &Path) -> Result<Self> {
        let builder = tracing_subscriber::fmt().with_ansi(false);
        Ok(match kind {
            FULLON => Self::Fullon(install_fullon(path)?),
            PLAIN_FILE => {
                let file = Mutex::new(File::create(path)?);
                builder.with_writer(file).init();
                Self::Plain
            }
            NON_BLOCKING => {
                let (writer, guard) = tracing_appender::non_blocking(File::create(path)?);
                builder.with_writer(writer).init();
                Self::NonBlocking(guard)
            }
            _ => bail!("`{kind}` is no way to log"),
        })
    }

    /// Waits until what was logged is in the file.
    fn settle(&self, path: &Path) -> Result<()> {
        match self {
            Self::Fullon(log) => log.flush(SETTLED_WITHIN),
            Self::Plain => {}
            Self::NonBlocking(_) => {
                let size = || std::fs::metadata(path).map(|file| file.len());
                let mut before = size()?;
                loop {
                    thread::sleep(QUIET);
                    let now = size()?;
                    if now == before {
                        break;
                    }
                    before = now;
                }
            }
        }
        Ok(())
    }
}

/// The daemon's own log, as it is set up there, and small enough to be rotated.
fn install_fullon(path: &Path) -> Result<InstalledLog> {
    let settings = LogSettings {
        filter: "info".to_owned(),
        format: LogFormat::Text,
        target: LogTarget::File(path.to_owned()),
        max_size: ByteSize::mib(1),
        keep: 1000,
    };
    Ok(logs::install(
        &settings,
        Some(LogFile::open(path, &settings)?),
        None,
    )?)
}

/// Nanoseconds an event, of a burst of those that a request makes.
fn burst() -> f64 {
    let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 46548));
    let begun = Instant::now();
    for number in 0..BURST as u64 {
        access("public", &peer, number);
    }
    let nanos = begun.elapsed().as_secs_f64() * 1e9;
    nanos / f64::from(u32::try_from(BURST).unwrap_or(u32::MAX))
}

fn many(name: &str) {
    let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 46548));
    for number in 0..EVENTS_OF_A_THREAD as u64 {
        access(name, &peer, number);
    }
}

/// The event of a request, with the fields that the server gives it.
fn access(server: &str, peer: &SocketAddr, number: u64) {
    let method = Method::GET;
    tracing::info!(
        target: "access",
        server,
        %method,
        path = "/",
        status = 200_u16,
        duration_us = number,
        peer = %peer,
        request_id = "6bf5f4a9-00000001",
    );
}

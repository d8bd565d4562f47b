//! Cost of an event in the thread that logs it, and events per second of four threads.
//!
//! Each subscriber runs in its own process, because a process has only one. It is a mode of the
//! benchmark's program.

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

use super::benchmark::LogBenchmark;
use super::completeness::{self, EVENTS_PER_THREAD, THREAD_NAMES, THREADS};
use super::large_logs::LargeLogs;
use super::rows::{LogRow, NON_BLOCKING, PLAIN_FILE};
use crate::figures::median;
use crate::rivals::FULLON;

/// The first argument of this mode. The measurement, the subscriber and the file follow.
pub const MODE: &str = "log-events";
const COST: &str = "cost";
const RATE: &str = "rate";

/// Half the capacity of the queue, so that no thread waits for the disk.
const BURST_EVENTS: usize = 8_000;
const BURSTS: usize = 25;
const FLUSH_TIMEOUT: Duration = Duration::from_secs(30);
/// A file that does not grow for this long is complete.
const QUIET_TIME: Duration = Duration::from_millis(20);
const LOG: &str = "daemon.log";
const REQUIRED_SPACE: u64 = 200_000_000;

pub fn measure_cost(run: &mut LogBenchmark, logs: &LargeLogs) -> Result<()> {
    for kind in [FULLON, PLAIN_FILE, NON_BLOCKING] {
        let directory = logs.create_directory(REQUIRED_SPACE)?;
        let figure = run_in_process(COST, kind, &directory.path().join(LOG))?;
        run.figures.add(kind, LogRow::EventCost, figure);
    }
    Ok(())
}

pub fn measure_rate(run: &mut LogBenchmark, logs: &LargeLogs) -> Result<()> {
    for kind in [PLAIN_FILE, FULLON] {
        let directory = logs.create_directory(REQUIRED_SPACE)?;
        let log = directory.path().join(LOG);
        let figure = run_in_process(RATE, kind, &log)?;
        let files = completeness::verify(&log).with_context(|| kind.to_owned())?;
        run.figures.add(kind, LogRow::EventRate, figure);
        run.figures.add(kind, LogRow::EventFiles, files);
    }
    Ok(())
}

fn run_in_process(measurement: &str, kind: &str, log: &Path) -> Result<f64> {
    let output = Command::new(std::env::current_exe()?)
        .args([MODE, measurement, kind])
        .arg(log)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "{kind} failed ({})", output.status);
    let text = String::from_utf8(output.stdout)?;
    text.trim().parse().with_context(|| text.clone())
}

/// Runs this mode. Prints one number.
pub fn run(arguments: &[String]) -> Result<()> {
    let [measurement, kind, path] = arguments else {
        bail!("what to measure, the way to log, and a file are needed");
    };
    let subscriber = Subscriber::install(kind, Path::new(path))?;
    let figure = match measurement.as_str() {
        COST => {
            let mut costs = Vec::with_capacity(BURSTS);
            for _ in 0..BURSTS {
                costs.push(time_burst());
                subscriber.flush(Path::new(path))?;
            }
            median(&costs).context("no bursts")?
        }
        RATE => {
            let started_at = Instant::now();
            thread::scope(|scope| {
                for name in THREAD_NAMES {
                    scope.spawn(move || log_events(name));
                }
            });
            subscriber.flush(Path::new(path))?;
            let events = u32::try_from(THREADS * EVENTS_PER_THREAD)?;
            f64::from(events) / started_at.elapsed().as_secs_f64()
        }
        _ => bail!("`{measurement}` is nothing that is measured"),
    };
    drop(subscriber);
    println!("{figure}");
    Ok(())
}

/// The log under test.
enum Subscriber {
    Fullon(InstalledLog),
    Plain,
    NonBlocking(#[expect(dead_code, reason = "its drop stops the writer")] WorkerGuard),
}

impl Subscriber {
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

    /// Waits until all events are in the file.
    fn flush(&self, path: &Path) -> Result<()> {
        match self {
            Self::Fullon(log) => log.flush(FLUSH_TIMEOUT),
            Self::Plain => {}
            Self::NonBlocking(_) => {
                let size = || std::fs::metadata(path).map(|file| file.len());
                let mut before = size()?;
                loop {
                    thread::sleep(QUIET_TIME);
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

/// The daemon's log with its defaults, and small enough to be rotated.
fn install_fullon(path: &Path) -> Result<InstalledLog> {
    let settings = LogSettings {
        filter: "info".to_owned(),
        format: LogFormat::Text,
        target: LogTarget::File(path.to_owned()),
        max_size: ByteSize::mib(1),
        keep: 1000,
        mode: None,
    };
    Ok(logs::install(
        &settings,
        Some(LogFile::open(path, &settings)?),
        None,
    )?)
}

/// Nanoseconds per access event in a burst.
fn time_burst() -> f64 {
    let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 46548));
    let started_at = Instant::now();
    for number in 0..BURST_EVENTS as u64 {
        log_access("public", &peer, number);
    }
    let nanos = started_at.elapsed().as_secs_f64() * 1e9;
    nanos / f64::from(u32::try_from(BURST_EVENTS).unwrap_or(u32::MAX))
}

fn log_events(name: &str) {
    let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 46548));
    for number in 0..EVENTS_PER_THREAD as u64 {
        log_access(name, &peer, number);
    }
}

/// The access event of a request, as the server logs it.
fn log_access(server: &str, peer: &SocketAddr, number: u64) {
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

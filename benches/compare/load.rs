//! Throughput and latency of a path, by wrk.

use std::io::Read as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::interrupt;
use crate::lifecycle::wait_for_command;

pub const HEALTH: &str = "/health";
/// One thread of wrk, so that a server on two cores has one for itself, and 32 kept connections.
const WRK_CLIENTS: [&str; 2] = ["-t1", "-c32"];
/// After an idle time a server is slower for about two seconds.
const WARM_UP_DURATION: &str = "-d3s";
const MEASURED_DURATION: &str = "-d2s";
/// Measurements of each server. The speed of the machine varies within seconds, so the servers are
/// loaded within seconds of each other, and several times.
const TURNS: usize = 5;

pub struct Load {
    /// Requests per second.
    pub per_second: f64,
    /// 99th percentile of the latency, in milliseconds.
    pub p99: f64,
}

/// Loads the servers in turns, forwards and backwards, while the others are idle. Calls `report`
/// after each turn with the results by index in `targets`, which are ports
/// and paths. Skips a server after its first failure.
pub fn measure_in_turns(
    targets: &[(u16, &str)],
    mut report: impl FnMut(Vec<(usize, Result<Load>)>),
) -> Result<()> {
    let mut order: Vec<usize> = (0..targets.len()).collect();
    for turn in 0..=TURNS {
        let mut loads = Vec::new();
        for &index in &order {
            interrupt::check()?;
            let load = run_wrk(
                targets[index],
                if turn == 0 {
                    WARM_UP_DURATION
                } else {
                    MEASURED_DURATION
                },
            );
            loads.push((index, load));
        }
        let has_failed = |index| {
            loads
                .iter()
                .any(|(failed, load)| *failed == index && load.is_err())
        };
        order.retain(|index| !has_failed(*index));
        order.reverse();
        loads.retain(|(_, load)| turn > 0 || load.is_err());
        report(loads);
    }
    Ok(())
}

fn run_wrk((port, path): (u16, &str), duration: &str) -> Result<Load> {
    let mut child = Command::new("wrk")
        .args(WRK_CLIENTS)
        .args(["--latency", duration])
        .arg(format!("http://127.0.0.1:{port}{path}"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("wrk cannot be run: sh benches/install-rivals.sh")?;
    let status = wait_for_command(&mut child)?;
    let mut report = String::new();
    // The report fits into the pipe's buffer.
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut report)?;
    }
    ensure!(status.success(), "wrk failed ({status}): {report}");
    ensure!(
        !report.contains("Non-2xx") && !report.contains("Socket errors"),
        "requests failed: {report}"
    );
    let value = |name| {
        let mut lines = report.lines().map(str::trim);
        lines
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
    };
    let per_second = value("Requests/sec:").and_then(|number| number.parse().ok());
    let p99 = value("99%").and_then(millis);
    per_second
        .zip(p99)
        .map(|(per_second, p99)| Load { per_second, p99 })
        .with_context(|| format!("wrk's report is not understood: {report}"))
}

/// Parses a duration as wrk writes it, such as `1.20ms`.
fn millis(text: &str) -> Option<f64> {
    let unit = text.find(char::is_alphabetic)?;
    let (number, unit) = text.split_at(unit);
    let factor = match unit {
        "us" => 1e-3,
        "ms" => 1.0,
        "s" => 1e3,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * factor)
}

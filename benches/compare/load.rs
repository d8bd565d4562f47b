//! Throughput and latency of `/health`, by wrk.

use std::io::Read as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::interrupt;
use crate::lifecycle::end_of;

/// One thread of wrk and 32 kept connections, so that on two cores the server has one for itself.
const CLIENTS: [&str; 2] = ["-t1", "-c32"];
/// A server that was idle serves half as much in the first second, and less in the second.
const WARM_UP: &str = "-d3s";
const MEASURED: &str = "-d2s";
/// How often each is measured. What the machine gives away to others changes within seconds, so servers that are compared have
/// to be loaded within seconds of each other, and more than once.
const TURNS: usize = 5;

/// What one measurement tells.
pub struct Load {
    /// Requests a second.
    pub per_second: f64,
    /// The time that one request in a hundred takes longer than, in milliseconds.
    pub p99: f64,
}

/// Loads servers in turn, forwards and backwards, while the others are idle. Each turn is told at its end, by place in `ports`; one
/// that fails is left alone from then on.
pub fn measure_in_turn(
    ports: &[u16],
    mut tell: impl FnMut(Vec<(usize, Result<Load>)>),
) -> Result<()> {
    let mut order: Vec<usize> = (0..ports.len()).collect();
    for turn in 0..=TURNS {
        let mut loads = Vec::new();
        for &which in &order {
            interrupt::check()?;
            let load = wrk(ports[which], if turn == 0 { WARM_UP } else { MEASURED });
            loads.push((which, load));
        }
        let has_failed = |which| loads.iter().any(|(it, load)| *it == which && load.is_err());
        order.retain(|which| !has_failed(*which));
        order.reverse();
        loads.retain(|(_, load)| turn > 0 || load.is_err());
        tell(loads);
    }
    Ok(())
}

fn wrk(port: u16, duration: &str) -> Result<Load> {
    let mut child = Command::new("wrk")
        .args(CLIENTS)
        .args(["--latency", duration])
        .arg(format!("http://127.0.0.1:{port}/health"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("wrk cannot be run: sh benches/install-rivals.sh")?;
    let status = end_of(&mut child)?;
    let mut report = String::new();
    // Its report is shorter than a pipe holds.
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

/// `1.20ms` as wrk writes it.
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

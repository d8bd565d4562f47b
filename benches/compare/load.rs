//! Throughput of `/health`, by wrk.

use std::io::Read as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::lifecycle::end_of;

/// One thread of wrk and 32 kept connections, so that on two cores the server has one for itself.
const CLIENTS: [&str; 2] = ["-t1", "-c32"];
/// A machine that was idle serves half as much in the first second, and less in the second.
const WARM_UP: &str = "-d3s";
const MEASURED: &str = "-d5s";

/// Requests a second.
pub fn measure(port: u16) -> Result<f64> {
    wrk(port, WARM_UP)?;
    wrk(port, MEASURED)
}

fn wrk(port: u16, duration: &str) -> Result<f64> {
    let mut child = Command::new("wrk")
        .args(CLIENTS)
        .arg(duration)
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
    report
        .lines()
        .find_map(|line| line.strip_prefix("Requests/sec:"))
        .and_then(|number| number.trim().parse().ok())
        .with_context(|| format!("wrk's report is not understood: {report}"))
}

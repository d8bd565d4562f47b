//! The second table: the effect of a restart on clients.
//!
//! Clients request `/health` as fast as they can while the server is replaced. Eight open a
//! connection for each request, and eight keep theirs until the server closes it. A round lasts
//! half a minute.

mod clients;
mod methods;
mod report;
mod rows;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::figures::Figures;
use crate::lifecycle::{Running, wait_for_command};
use crate::ports::Ports;
use crate::progress::report_failure;
use crate::rivals::FULLON;
use crate::{baseline, health, interrupt, machine};
use clients::Clients;
use methods::RestartMethod;
use rows::RestartRow;

/// Restarts of each contender in a round.
const RESTARTS: usize = 3;
const WARM_UP: Duration = Duration::from_millis(500);
/// Observation time after a restart, in which a draining connection may still be cut.
const COOL_DOWN: Duration = Duration::from_millis(700);
const RESTART_TIMEOUT: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Measures all, and prints the table.
pub fn compare(rounds: usize) -> Result<()> {
    let mut ports = Ports::new()?;
    let mut methods = methods::available_methods(&mut ports);
    let names: Vec<&'static str> = methods.iter().map(|method| method.name).collect();
    let mut figures = Figures::new();
    let mut has_failed = false;
    println!("{}", machine::describe(rounds));
    for round in 1..=rounds {
        eprintln!("restarts, round {round} of {rounds}");
        for method in &methods {
            interrupt::check()?;
            eprintln!("  {}", method.name);
            if let Err(error) = measure(method, &mut figures) {
                interrupt::check()?;
                has_failed |= method.name == FULLON;
                report_failure(method.name, &error);
            }
        }
        methods.reverse();
    }
    println!("{}", report::render(&figures, &names));
    println!(
        "{}",
        baseline::compare("restart", &rows::measured(&figures))?
    );
    println!("{}", machine::describe(rounds));
    if has_failed {
        bail!("fullon itself failed in a round: see above");
    }
    Ok(())
}

fn measure(method: &RestartMethod, figures: &mut Figures<RestartRow>) -> Result<()> {
    let (running, _) = Running::start(&method.contender)?;
    health::expect_healthy(method.contender.port)?;
    let clients = Clients::start(method.contender.port);
    interrupt::sleep(WARM_UP)?;
    for _ in 0..RESTARTS {
        clients.take_observations();
        let took = restart(method).with_context(|| method.contender.output_tail())?;
        interrupt::sleep(COOL_DOWN)?;
        let observations = clients.take_observations();
        ensure!(observations.responses > 0, "nothing was answered");
        let name = method.name;
        figures.add(name, RestartRow::FailedRequests, observations.failures);
        figures.add(
            name,
            RestartRow::LongestGap,
            observations.longest_gap.as_secs_f64() * 1e3,
        );
        if let Some(took) = took {
            figures.add(name, RestartRow::CommandTime, took.as_secs_f64() * 1e3);
        }
    }
    drop(clients);
    // After a kill, some contenders would mistake their leftovers for a running daemon.
    running.stop().map(drop)
}

/// Restarts, and waits until the server is healthy. Returns how long the commands took.
fn restart(method: &RestartMethod) -> Result<Option<Duration>> {
    let started_at = Instant::now();
    for command in &method.commands {
        let mut child = method.contender.command(command)?.spawn()?;
        let status = wait_for_command(&mut child)?;
        ensure!(status.success(), "its restart failed ({status})");
    }
    let took = started_at.elapsed();
    while !health::is_healthy(method.contender.port) {
        ensure!(
            started_at.elapsed() < RESTART_TIMEOUT,
            "it does not come back"
        );
        interrupt::sleep(POLL_INTERVAL)?;
    }
    Ok((!method.commands.is_empty()).then_some(took))
}

//! The second table: what clients notice of a restart.
//!
//! Eight clients that open a connection for each request, and eight that keep theirs until they are told not to, ask for
//! `/health` as fast as they can while the server is replaced. A round lasts half a minute.

mod clients;
mod report;
mod rows;
mod ways;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::figures::Figures;
use crate::lifecycle::{Running, end_of};
use crate::ports::Ports;
use crate::rivals::FULLON;
use crate::{health, interrupt, left_out, machine};
use clients::Clients;
use rows::Row;
use ways::Way;

/// Of each contender in a round.
const RESTARTS: usize = 3;
/// How long clients ask before the first restart.
const WARM_UP: Duration = Duration::from_millis(500);
/// How long they are watched after a restart: what drains is cut by then, if it is.
const AFTERWARDS: Duration = Duration::from_millis(700);
/// Whoever is not back by then has failed.
const LIMIT: Duration = Duration::from_secs(30);
const POLL_PAUSE: Duration = Duration::from_millis(5);

/// Measures all, and prints the table.
pub fn compare(rounds: usize) -> Result<()> {
    let mut ports = Ports::new()?;
    let mut ways = ways::all(&mut ports, left_out);
    let names: Vec<&'static str> = ways.iter().map(|way| way.name).collect();
    let mut figures = Figures::new();
    let mut has_failed = false;
    println!("{}", machine::describe(rounds));
    for round in 1..=rounds {
        eprintln!("restarts, round {round} of {rounds}");
        for way in &ways {
            interrupt::check()?;
            eprintln!("  {}", way.name);
            if let Err(error) = measure(way, &mut figures) {
                interrupt::check()?;
                has_failed |= way.name == FULLON;
                eprintln!("\n*** FAILED: {}: {error:#}\n", way.name);
            }
        }
        ways.reverse();
    }
    println!("{}", report::render(&figures, &names));
    println!("{}", machine::describe(rounds));
    if has_failed {
        bail!("fullon itself failed in a round: see above");
    }
    Ok(())
}

fn measure(way: &Way, figures: &mut Figures<Row>) -> Result<()> {
    let (running, _) = Running::start(&way.contender)?;
    health::expect(way.contender.port)?;
    let clients = Clients::begin(way.contender.port);
    interrupt::rest(WARM_UP)?;
    for _ in 0..RESTARTS {
        clients.seen();
        let took = restart(way).with_context(|| way.contender.said())?;
        interrupt::rest(AFTERWARDS)?;
        let seen = clients.seen();
        ensure!(seen.answered > 0, "nothing was answered");
        let name = way.name;
        figures.add(name, Row::Failed, seen.failed);
        figures.add(name, Row::Gap, seen.longest_gap.as_secs_f64() * 1e3);
        if let Some(took) = took {
            figures.add(name, Row::Took, took.as_secs_f64() * 1e3);
        }
    }
    drop(clients);
    // Killed, some would take what they left for a daemon that runs.
    running.stop().map(drop)
}

/// How long its commands take, and until it answers again.
fn restart(way: &Way) -> Result<Option<Duration>> {
    let begun = Instant::now();
    for command in &way.restart {
        let mut child = way.contender.command(command)?.spawn()?;
        let status = end_of(&mut child)?;
        ensure!(status.success(), "its restart failed ({status})");
    }
    let took = begun.elapsed();
    while !health::is_served(way.contender.port) {
        ensure!(begun.elapsed() < LIMIT, "it does not come back");
        interrupt::rest(POLL_PAUSE)?;
    }
    Ok((!way.restart.is_empty()).then_some(took))
}

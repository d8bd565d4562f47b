//! The first table: the service beside its rivals, from start to stop.
//!
//! Rounds are interleaved and run forwards and backwards in turn, so that a drift of the machine meets all alike. The
//! first three leave each contender idle for a while, and last two to three minutes, the others a minute and a half.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Error, Result};

use crate::contender::Contender;
use crate::lifecycle::Running;
use crate::machine::ProcessorTime;
use crate::results::{Results, Row};
use crate::{health, idle, interrupt, load, machine, overhead, programs, rivals, table};

/// Requests that warm a contender before it is left idle.
const REQUESTS_BEFORE_IDLE: u32 = 100;
/// Starts and stops in a round. One alone would tell how long the machine takes to wake up from the idle time of the
/// contender before, which triples the figures of a few milliseconds.
const CYCLES: u32 = 4;
/// Idle times of a contender. They differ little, and are most of what a round lasts.
const IDLE_TIMES: usize = 3;

/// Measures all, and prints the table.
pub fn compare(rounds: usize) -> Result<()> {
    let left_out = crate::left_out;
    let contenders = rivals::all(left_out)?;
    let wrk = programs::installed("wrk").inspect_err(|error| left_out("throughput", error));
    let mut results = Results::new(contenders.iter().map(|contender| contender.name));
    results.add(rivals::FULLON, Row::Size, rivals::fullon_size()?);
    println!("{}", machine::describe(rounds));

    let mut order: Vec<&Contender> = contenders.iter().collect();
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        for contender in order.iter().filter(|it| it.measured.has_lifecycle()) {
            interrupt::check()?;
            eprintln!("  {}", contender.name);
            if let Err(error) = lifecycle(contender, &mut results) {
                failed(contender, &mut results, &error)?;
            }
        }
        if wrk.is_ok() {
            throughput(&order, &mut results)?;
        }
        // The other way round next time: neighbours stay neighbours, and neither is always first.
        order.reverse();
    }

    println!("{}", table::render(&results));
    match wrk.and_then(|_| overhead::measure(rounds)) {
        Ok(text) => println!("{text}"),
        Err(error) => left_out("overhead", &error),
    }
    println!("{}", machine::describe(rounds));
    if results.has_failed(rivals::FULLON) {
        anyhow::bail!("fullon itself failed in a round: see above");
    }
    Ok(())
}

/// A failure costs its contender the figures of this round and nobody else anything; only Ctrl-C ends the run.
fn failed(contender: &Contender, results: &mut Results, error: &Error) -> Result<()> {
    interrupt::check()?;
    results.fail(contender.name);
    eprintln!("\n*** FAILED: {}: {error:#}\n", contender.name);
    Ok(())
}

/// Start, status and stop, some times over; the last time with an idle time between, if that is still wanted.
fn lifecycle(contender: &Contender, results: &mut Results) -> Result<()> {
    let name = contender.name;
    for cycle in 1..=CYCLES {
        let (running, started) = Running::start(contender)?;
        results.add(name, Row::Start, millis(started.until_served));
        let is_early = u8::from(started.returned_early);
        results.add(name, Row::Early, f64::from(is_early));
        if cycle == CYCLES && results.figures(Row::Memory, name).len() < IDLE_TIMES {
            idle(contender, results)?;
        }
        if let Some(took) = running.status()? {
            results.add(name, Row::Status, millis(took));
        }
        let took = running.stop()?;
        results.add(name, Row::Stop, millis(took));
    }
    Ok(())
}

fn idle(contender: &Contender, results: &mut Results) -> Result<()> {
    for _ in 0..REQUESTS_BEFORE_IDLE {
        health::expect(contender.port)?;
    }
    let idle = idle::measure(contender)?;
    let name = contender.name;
    results.add(name, Row::Memory, idle.megabytes);
    results.add(name, Row::WakeUps, idle.wake_ups_per_second());
    results.add_threads(name, idle.threads);
    results.disturbance.push(idle.disturbance);
    Ok(())
}

/// All servers at once, loaded in turn.
fn throughput(contenders: &[&Contender], results: &mut Results) -> Result<()> {
    let mut running = Vec::new();
    for contender in contenders.iter().filter(|it| it.measured.has_load()) {
        interrupt::check()?;
        eprintln!("  {} under load", contender.name);
        let started = Running::start(contender)
            .and_then(|(started, _)| health::expect(contender.port).map(|()| started));
        match started {
            // Ended by its guard: how it stops was measured without load.
            Ok(guard) => running.push((contender, guard)),
            Err(error) => failed(contender, results, &error)?,
        }
    }
    let ports: Vec<u16> = running.iter().map(|(it, _)| it.port).collect();
    let mut failures = Vec::new();
    let begun = ProcessorTime::now()?;
    load::measure_in_turn(&ports, |loads| {
        let mut turn = BTreeMap::new();
        for (which, load) in loads {
            let (contender, _) = running[which];
            match load {
                Ok(load) => {
                    results.add(contender.name, Row::Load, load.per_second);
                    results.add(contender.name, Row::Tail, load.p99);
                    turn.insert(contender.name, load.per_second);
                }
                Err(error) => failures.push((contender, error)),
            }
        }
        let of = |name| turn.get(name).copied();
        let ratio = of(rivals::FULLON).zip(of(rivals::BARE_HYPER));
        results.ratios.extend(ratio.map(|(own, bound)| own / bound));
    })?;
    let stolen = begun.percent_stolen_until(&ProcessorTime::now()?);
    results.stolen.push(stolen);
    for (contender, error) in failures {
        failed(contender, results, &error)?;
    }
    Ok(())
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

//! The first table: the service and its rivals, from start to stop.
//!
//! Rounds are interleaved, and run forwards and backwards in turn, so that a drift of the machine
//! affects all contenders alike. The first three rounds include idle times and last two to three
//! minutes, the others a minute and a half.

mod report;
mod results;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Error, Result};

use crate::contender::Contender;
use crate::lifecycle::Running;
use crate::machine::ProcessorTime;
use crate::progress::{report_failure, report_skipped};
use crate::{baseline, health, idle, interrupt, load, machine, overhead, programs, rivals};
use results::{Results, ServiceRow};

/// Requests that warm a contender before it is left idle.
const REQUESTS_BEFORE_IDLE: u32 = 100;
/// Starts and stops in a round. A single one would measure how the machine wakes up after the idle
/// time of the previous contender, which triples figures of a few milliseconds.
const CYCLES: u32 = 4;
/// Idle times of a contender. They differ little and take most of a round.
const IDLE_TIMES: usize = 3;

/// Measures all, and prints the table.
pub fn compare(rounds: usize) -> Result<()> {
    let contenders = rivals::available_contenders()?;
    let wrk =
        programs::find_program("wrk").inspect_err(|error| report_skipped("throughput", error));
    let mut results = Results::new(contenders.iter().map(|contender| contender.name));
    results.add(rivals::FULLON, ServiceRow::Size, rivals::fullon_size()?);
    println!("{}", machine::describe(rounds));

    let mut order: Vec<&Contender> = contenders.iter().collect();
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        for contender in order
            .iter()
            .filter(|contender| contender.measurements.has_lifecycle())
        {
            interrupt::check()?;
            eprintln!("  {}", contender.name);
            if let Err(error) = measure_lifecycle(contender, &mut results) {
                record_failure(contender, &mut results, &error)?;
            }
        }
        if wrk.is_ok() {
            measure_throughput(&order, &mut results)?;
        }
        // The reverse order keeps neighbours together, and none is always first.
        order.reverse();
    }

    println!("{}", report::render(&results));
    println!("{}", baseline::compare("service", &results.measured())?);
    match wrk.and_then(|_| overhead::measure(rounds)) {
        Ok(text) => println!("{text}"),
        Err(error) => report_skipped("overhead", &error),
    }
    println!("{}", machine::describe(rounds));
    if results.has_failed(rivals::FULLON) {
        anyhow::bail!("fullon itself failed in a round: see above");
    }
    Ok(())
}

/// A contender that fails has no figures in this round. Only Ctrl-C ends the run.
fn record_failure(contender: &Contender, results: &mut Results, error: &Error) -> Result<()> {
    interrupt::check()?;
    results.fail(contender.name);
    report_failure(contender.name, error);
    Ok(())
}

/// Measures several starts and stops. The last one includes an idle time, up to [`IDLE_TIMES`].
fn measure_lifecycle(contender: &Contender, results: &mut Results) -> Result<()> {
    let name = contender.name;
    for cycle in 1..=CYCLES {
        let (running, started) = Running::start(contender)?;
        results.add(name, ServiceRow::Start, millis(started.time_to_healthy));
        let is_early = u8::from(started.returned_early);
        results.add(name, ServiceRow::EarlyReturn, f64::from(is_early));
        if cycle == CYCLES && results.figures(ServiceRow::Memory, name).len() < IDLE_TIMES {
            measure_idle(contender, results)?;
        }
        if let Some(took) = running.status()? {
            results.add(name, ServiceRow::Status, millis(took));
        }
        let took = running.stop()?;
        results.add(name, ServiceRow::Stop, millis(took));
    }
    Ok(())
}

fn measure_idle(contender: &Contender, results: &mut Results) -> Result<()> {
    for _ in 0..REQUESTS_BEFORE_IDLE {
        health::expect_healthy(contender.port)?;
    }
    let idle = idle::measure(contender)?;
    let name = contender.name;
    results.add(name, ServiceRow::Memory, idle.megabytes);
    results.add(name, ServiceRow::WakeUps, idle.wake_ups_per_second());
    results.add_threads(name, idle.threads);
    results.background_load.push(idle.background_load);
    Ok(())
}

/// Starts all servers and loads them in turns.
fn measure_throughput(contenders: &[&Contender], results: &mut Results) -> Result<()> {
    let mut running = Vec::new();
    for contender in contenders
        .iter()
        .filter(|contender| contender.measurements.has_load())
    {
        interrupt::check()?;
        eprintln!("  {} under load", contender.name);
        let started = Running::start(contender)
            .and_then(|(started, _)| health::expect_healthy(contender.port).map(|()| started));
        match started {
            // Killed by the guard. Its stop was measured without load.
            Ok(guard) => running.push((contender, guard)),
            Err(error) => record_failure(contender, results, &error)?,
        }
    }
    let targets: Vec<_> = running
        .iter()
        .map(|(contender, _)| (contender.port, load::HEALTH))
        .collect();
    let mut failures = Vec::new();
    let started_at = ProcessorTime::now()?;
    load::measure_in_turns(&targets, |loads| {
        let mut turn = BTreeMap::new();
        for (index, load) in loads {
            let (contender, _) = running[index];
            match load {
                Ok(load) => {
                    results.add(contender.name, ServiceRow::Load, load.per_second);
                    results.add(contender.name, ServiceRow::P99, load.p99);
                    turn.insert(contender.name, load.per_second);
                }
                Err(error) => failures.push((contender, error)),
            }
        }
        let load_of = |name| turn.get(name).copied();
        let ratio = load_of(rivals::FULLON).zip(load_of(rivals::BARE_HYPER));
        results
            .turn_ratios
            .extend(ratio.map(|(own, bound)| own / bound));
    })?;
    let routed: Vec<_> = running
        .iter()
        .filter(|(contender, _)| [rivals::FULLON, rivals::BARE_HYPER].contains(&contender.name))
        .collect();
    let targets: Vec<_> = routed
        .iter()
        .map(|(contender, _)| (contender.port, "/health/live"))
        .collect();
    load::measure_in_turns(&targets, |loads| {
        for (index, load) in loads {
            let (contender, _) = routed[index];
            match load {
                Ok(load) => results.add(contender.name, ServiceRow::Routed, load.per_second),
                Err(error) => failures.push((contender, error)),
            }
        }
    })?;
    let stolen = started_at.percent_stolen_until(&ProcessorTime::now()?);
    results.stolen.push(stolen);
    for (contender, error) in failures {
        record_failure(contender, results, &error)?;
    }
    Ok(())
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

//! The cost of what surrounds a response: access events, metrics, and scraping them.

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use fullon_master_api::server::metrics::Metrics;
use hyper::Method;

use crate::contender::Contender;
use crate::figures::median;
use crate::lifecycle::Running;
use crate::log::daemon;
use crate::log::percentiles::Percentiles;
use crate::ports::Ports;
use crate::public_server::{WITH_METRICS, WITHOUT_METRICS};
use crate::table::Target;
use crate::{health, interrupt, load, machine, rivals};

/// The servers of `/health`. Each does more than the one before.
const SETUPS: [(&str, Setup); 5] = [
    (
        "the server alone, without metrics",
        Setup::PublicServer(WITHOUT_METRICS),
    ),
    ("with them", Setup::PublicServer(WITH_METRICS)),
    ("the daemon, where nothing is logged", Setup::Daemon("off")),
    ("as it is", Setup::Daemon("info")),
    ("with an access event each", Setup::Daemon("debug")),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Setup {
    /// The public server alone, with or without metrics.
    PublicServer(&'static str),
    /// The whole daemon with this `LOG_LEVEL`.
    Daemon(&'static str),
}

impl Setup {
    fn contender(self, ports: &mut Ports) -> Result<Contender> {
        match self {
            Self::PublicServer(metrics) => rivals::public_server_contender(ports, metrics),
            Self::Daemon(level) => {
                let settings = [
                    ("LOG_LEVEL", level.into()),
                    ("LOG_MAX_SIZE", NEVER_ROTATED.into()),
                ];
                rivals::fullon_with(ports, settings)
            }
        }
    }
}

/// Disables rotation, which the log table measures.
const NEVER_ROTATED: &str = "100GiB";
const REQUESTS: u32 = 5_000_000;
const SCRAPES: usize = 2_000;
/// Limit of the 99th percentile, in milliseconds.
const SCRAPE_TARGET: f64 = 5.0;

/// Prints the lines on their own.
pub fn compare(rounds: usize) -> Result<()> {
    println!("{}\n{}", machine::describe(rounds), measure(rounds)?);
    Ok(())
}

/// The lines below the first table.
pub fn measure(rounds: usize) -> Result<String> {
    let mut ports = Ports::new()?;
    let mut loads = SETUPS.map(|_| Vec::new());
    let mut scrapes = Vec::new();
    for round in 1..=rounds {
        eprintln!("overhead, round {round} of {rounds}");
        measure_round(&mut ports, &mut loads, &mut scrapes)?;
    }
    let loads = loads.map(|loads| median(&loads).unwrap_or_default());
    Ok(render(&loads, metrics_cost()?, &scrapes))
}

fn measure_round(
    ports: &mut Ports,
    loads: &mut [Vec<f64>],
    scrapes: &mut Vec<Percentiles>,
) -> Result<()> {
    let contenders = SETUPS
        .iter()
        .map(|(_, setup)| Ok((*setup, setup.contender(ports)?)))
        .collect::<Result<Vec<_>>>()?;
    let _running = contenders
        .iter()
        .map(|(_, contender)| Ok(Running::start(contender)?.0))
        .collect::<Result<Vec<_>>>()?;
    let ports: Vec<u16> = contenders
        .iter()
        .map(|(_, contender)| contender.port)
        .collect();
    ports
        .iter()
        .try_for_each(|port| health::expect_healthy(*port))?;
    let mut failure = Ok(());
    let targets: Vec<_> = ports.iter().map(|port| (*port, load::HEALTH)).collect();
    load::measure_in_turns(&targets, |turn| {
        for (index, load) in turn {
            match load {
                Ok(load) => loads[index].push(load.per_second),
                Err(error) => failure = Err(error),
            }
        }
    })?;
    failure?;
    for (setup, contender) in &contenders {
        if *setup == Setup::Daemon("info") {
            scrapes.push(scrape(contender)?);
        }
    }
    Ok(())
}

fn render(loads: &[f64], metrics_cost: Duration, scrapes: &[Percentiles]) -> String {
    let mut text = String::from("/health throughput, requests a second: ");
    for ((name, _), load) in SETUPS.iter().zip(loads) {
        let _ = write!(text, "{name} {load:.0} ({:.2}); ", load / loads[0]);
    }
    let share_of_request = metrics_cost.as_secs_f64() * loads[0];
    let _ = writeln!(
        text,
        "counting costs {} ns, {:.1} % of a request",
        metrics_cost.as_nanos(),
        share_of_request * 100.0
    );
    let median_of = |figure: fn(&Percentiles) -> f64| {
        let figures: Vec<f64> = scrapes.iter().map(figure).collect();
        median(&figures).unwrap_or_default()
    };
    let p50 = median_of(|scrape| scrape.p50);
    let p99 = median_of(|scrape| scrape.p99);
    let verdict = Target::AtMost(SCRAPE_TARGET).verdict(Some(p99), None);
    let _ = writeln!(
        text,
        "/admin/metrics, ms: p50 {p50:.2}, p99 {p99:.2} ({verdict})"
    );
    text
}

/// Latency of scrapes, one after the other on a kept connection.
fn scrape(contender: &Contender) -> Result<Percentiles> {
    let mut admin = daemon::admin(contender)?;
    let mut micros = Vec::with_capacity(SCRAPES);
    for _ in 0..SCRAPES {
        interrupt::check()?;
        let started_at = Instant::now();
        admin.get("/admin/metrics", "")?;
        micros.push(u32::try_from(started_at.elapsed().as_micros())?);
    }
    Percentiles::of(micros).context("nothing was scraped")
}

/// Cost of counting one request in one thread: route lookup, counter and histogram.
fn metrics_cost() -> Result<Duration> {
    let metrics = Metrics::new()?;
    let paths = [
        "/",
        "/health",
        "/health/live",
        "/health/ready",
        "/docs",
        "/openapi.json",
    ];
    let routes = metrics
        .requests
        .routes("public", paths.map(str::to_owned), []);
    let started_at = Instant::now();
    for number in 0..REQUESTS {
        let took = Duration::from_nanos(u64::from(number % 100_000));
        routes
            .series(black_box(&Method::GET), black_box("/health"))
            .observe(200, took);
    }
    Ok(started_at.elapsed() / REQUESTS)
}

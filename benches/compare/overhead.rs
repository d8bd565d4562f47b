//! What surrounds an answer, and what it costs: the access event, the metrics, and asking for them.

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
use crate::served::{COUNTED, UNCOUNTED};
use crate::{health, interrupt, load, machine, rivals};

/// Who serves `/health`, each with more around it than the one before.
const SERVED: [(&str, Served); 5] = [
    (
        "the server alone, without metrics",
        Served::Alone(UNCOUNTED),
    ),
    ("with them", Served::Alone(COUNTED)),
    ("the daemon, where nothing is logged", Served::Daemon("off")),
    ("as it is", Served::Daemon("info")),
    ("with an access event each", Served::Daemon("debug")),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Served {
    /// The public server in a process of its own.
    Alone(&'static str),
    /// All of it, with this `LOG_LEVEL`.
    Daemon(&'static str),
}

impl Served {
    fn contender(self, ports: &mut Ports) -> Result<Contender> {
        match self {
            Self::Alone(how) => rivals::served(ports, how),
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

/// No log here is rotated: that is another table's.
const NEVER_ROTATED: &str = "100GiB";
const REQUESTS: u32 = 5_000_000;
const SCRAPES: usize = 2_000;
/// What a scrape may take, in milliseconds.
const SCRAPE_TARGET: f64 = 5.0;

/// Prints them.
pub fn compare(rounds: usize) -> Result<()> {
    println!("{}\n{}", machine::describe(rounds), measure(rounds)?);
    Ok(())
}

/// The lines below the first table.
pub fn measure(rounds: usize) -> Result<String> {
    let mut ports = Ports::new()?;
    let mut loads = SERVED.map(|_| Vec::new());
    let mut scrapes = Vec::new();
    for round in 1..=rounds {
        eprintln!("overhead, round {round} of {rounds}");
        let contenders = SERVED
            .iter()
            .map(|(_, served)| Ok((*served, served.contender(&mut ports)?)))
            .collect::<Result<Vec<_>>>()?;
        let running = contenders
            .iter()
            .map(|(_, contender)| Ok(Running::start(contender)?.0))
            .collect::<Result<Vec<_>>>()?;
        let ports: Vec<u16> = contenders.iter().map(|(_, it)| it.port).collect();
        ports.iter().try_for_each(|port| health::expect(*port))?;
        let mut failure = Ok(());
        load::measure_in_turn(&ports, |turn| {
            for (which, load) in turn {
                match load {
                    Ok(load) => loads[which].push(load.per_second),
                    Err(error) => failure = Err(error),
                }
            }
        })?;
        failure?;
        for (served, contender) in &contenders {
            if *served == Served::Daemon("info") {
                scrapes.push(scrape(contender)?);
            }
        }
        drop(running);
    }
    let loads = loads.map(|loads| median(&loads).unwrap_or_default());
    let mut text = String::from("/health throughput, requests a second: ");
    for ((name, _), load) in SERVED.iter().zip(loads) {
        let _ = write!(text, "{name} {load:.0} ({:.2}); ", load / loads[0]);
    }
    let count = cost_of_counting()?;
    let of_a_request = count.as_secs_f64() * loads[0];
    let _ = writeln!(
        text,
        "counting costs {} ns, {:.1} % of a request",
        count.as_nanos(),
        of_a_request * 100.0
    );
    let of = |figure: fn(&Percentiles) -> f64| {
        let figures: Vec<f64> = scrapes.iter().map(figure).collect();
        median(&figures).unwrap_or_default()
    };
    let (p50, p99) = (of(|scrape| scrape.p50), of(|scrape| scrape.p99));
    let verdict = if p99 <= SCRAPE_TARGET {
        "met"
    } else {
        "MISSED"
    };
    let _ = writeln!(
        text,
        "/admin/metrics, ms: p50 {p50:.2}, p99 {p99:.2} (<= {SCRAPE_TARGET}: {verdict})"
    );
    Ok(text)
}

/// On a kept connection, one after the other.
fn scrape(contender: &Contender) -> Result<Percentiles> {
    let mut admin = daemon::admin(contender)?;
    let mut micros = Vec::with_capacity(SCRAPES);
    for _ in 0..SCRAPES {
        interrupt::check()?;
        let begun = Instant::now();
        admin.get("/admin/metrics", "")?;
        micros.push(u32::try_from(begun.elapsed().as_micros())?);
    }
    Percentiles::of(micros).context("nothing was scraped")
}

/// Of one request in one thread: finding its route, a counter and a histogram.
fn cost_of_counting() -> Result<Duration> {
    let metrics = Metrics::new()?;
    let paths = [
        "/",
        "/health",
        "/health/live",
        "/health/ready",
        "/docs",
        "/openapi.json",
    ];
    let routes = metrics.routes("public", paths.map(str::to_owned), []);
    let begun = Instant::now();
    for number in 0..REQUESTS {
        let took = Duration::from_nanos(u64::from(number % 100_000));
        routes
            .series(black_box(&Method::GET), black_box("/health"))
            .observe(200, took);
    }
    Ok(begun.elapsed() / REQUESTS)
}

//! What surrounds an answer, and what it costs: the access event, the metrics, and asking for them.

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use fullon_master_api::server::metrics::Metrics;
use hyper::Method;

use crate::figures::median;
use crate::lifecycle::Running;
use crate::log::daemon;
use crate::log::percentiles::Percentiles;
use crate::ports::Ports;
use crate::{health, interrupt, load, rivals};

/// What is logged of a health probe, and the `LOG_LEVEL` that has it so.
const LOGGED: [(&str, &str); 3] = [
    ("nothing is logged", "off"),
    ("as it is", "info"),
    ("with an access event each", "debug"),
];
/// No log here is rotated: that is another table's.
const NEVER_ROTATED: &str = "100GiB";
const COUNTED: u32 = 5_000_000;
const SCRAPES: usize = 2_000;
/// What a scrape may take, in milliseconds.
const SCRAPE_TARGET: f64 = 5.0;

/// The lines below the first table.
pub fn measure(rounds: usize) -> Result<String> {
    eprintln!("overhead");
    let mut ports = Ports::new()?;
    let mut loads = LOGGED.map(|_| Vec::new());
    let mut scrapes = Vec::new();
    for _ in 0..rounds {
        for ((_, level), loads) in LOGGED.iter().zip(&mut loads) {
            interrupt::check()?;
            let settings = [
                ("LOG_LEVEL", level.into()),
                ("LOG_MAX_SIZE", NEVER_ROTATED.into()),
            ];
            let contender = rivals::fullon_with(&mut ports, settings)?;
            let (_running, _) = Running::start(&contender)?;
            health::expect(contender.port)?;
            loads.push(load::measure(contender.port)?.per_second);
            if *level == "info" {
                scrapes.push(scrape(&contender)?);
            }
        }
    }
    let loads = loads.map(|loads| median(&loads).unwrap_or_default());
    let mut text = String::from("/health throughput, requests a second: ");
    for ((name, _), load) in LOGGED.iter().zip(loads) {
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
fn scrape(contender: &crate::contender::Contender) -> Result<Percentiles> {
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
    for number in 0..COUNTED {
        let took = Duration::from_nanos(u64::from(number % 100_000));
        routes
            .series(black_box(&Method::GET), black_box("/health"))
            .count(200, took);
    }
    Ok(begun.elapsed() / COUNTED)
}

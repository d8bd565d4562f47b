//! Events at a steady rate.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::event;
use super::http::Connection;
use crate::interrupt;

pub const EVENT_INTERVAL: Duration = Duration::from_millis(10);
/// A larger delay means that the daemon is overloaded.
const MAX_LAG: Duration = Duration::from_secs(10);
const WARM_UP_REQUESTS: u32 = 100;

/// Sends requests to the public API, 100 per second. Each one is an event.
pub fn send_requests(port: u16, events: usize) -> Result<()> {
    let mut connection = Connection::open(port, None)?;
    run_evenly(events, EVENT_INTERVAL, |number| {
        let header = format!("X-Request-Id: {}\r\n", event::request_id(number));
        connection.get("/", &header).map(drop)
    })
}

/// Sends a few requests that are not events.
pub fn warm_up(port: u16) -> Result<()> {
    let mut connection = Connection::open(port, None)?;
    for _ in 0..WARM_UP_REQUESTS {
        connection.get("/", "")?;
    }
    Ok(())
}

/// Repeats an action at a fixed interval. A slow action does not delay the schedule of the others.
pub fn run_evenly(
    times: usize,
    interval: Duration,
    mut action: impl FnMut(u64) -> Result<()>,
) -> Result<()> {
    let mut due = Instant::now();
    for number in 0..times as u64 {
        interrupt::sleep(due.saturating_duration_since(Instant::now()))?;
        action(number)?;
        due += interval;
        let behind = Instant::now().saturating_duration_since(due);
        ensure!(
            behind < MAX_LAG,
            "event {number} was made {behind:.1?} late: the daemon is overloaded"
        );
    }
    Ok(())
}

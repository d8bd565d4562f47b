//! Events at an even pace.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::event;
use super::http::Connection;
use crate::interrupt;

/// A hundred a second.
pub const PAUSE: Duration = Duration::from_millis(10);
/// Beyond this there is nothing left to tell.
const MAX_BEHIND: Duration = Duration::from_secs(10);
const WARM_UP: u32 = 100;

/// So many requests to the public API, 100 a second, each an event.
pub fn requests(port: u16, events: usize) -> Result<()> {
    let mut connection = Connection::open(port, None)?;
    evenly(events, PAUSE, |number| {
        let header = format!("X-Request-Id: {}\r\n", event::name(number));
        connection.get("/", &header).map(drop)
    })
}

/// A few requests that are no events.
pub fn warm_up(port: u16) -> Result<()> {
    let mut connection = Connection::open(port, None)?;
    for _ in 0..WARM_UP {
        connection.get("/", "")?;
    }
    Ok(())
}

/// An action again and again. One that takes longer than the pause does not move those after it.
pub fn evenly(
    times: usize,
    pause: Duration,
    mut action: impl FnMut(u64) -> Result<()>,
) -> Result<()> {
    let mut due = Instant::now();
    for number in 0..times as u64 {
        interrupt::rest(due.saturating_duration_since(Instant::now()))?;
        action(number)?;
        due += pause;
        let behind = Instant::now().saturating_duration_since(due);
        ensure!(
            behind < MAX_BEHIND,
            "event {number} was made {behind:.1?} late: the daemon is overloaded"
        );
    }
    Ok(())
}

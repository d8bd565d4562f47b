//! What a crowd of followers has received.

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::percentiles::Percentiles;

pub struct Tally {
    /// Of every event at every follower, in microseconds.
    each: Vec<u32>,
    /// Of every event at the follower that received it last.
    last: Vec<u32>,
    followers: usize,
}

/// The same, summed up, as one process tells another.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    /// Why the figures do not count.
    pub problem: Option<String>,
    pub each: Option<Percentiles>,
    pub last: Option<Percentiles>,
}

impl Tally {
    pub fn new(followers: usize, events: usize) -> Self {
        Self {
            each: Vec::with_capacity(followers * events),
            last: vec![0; events],
            followers,
        }
    }

    pub fn add(&mut self, event: u64, micros: u32) -> Result<()> {
        let last = usize::try_from(event)
            .ok()
            .and_then(|event| self.last.get_mut(event))
            .with_context(|| format!("event {event} was never made"))?;
        *last = micros.max(*last);
        self.each.push(micros);
        Ok(())
    }

    pub fn received(&self) -> usize {
        self.each.len()
    }

    /// Followers take events in order and once, so the number tells whether all are there.
    pub fn is_complete(&self) -> bool {
        self.each.len() == self.due()
    }

    fn due(&self) -> usize {
        self.followers * self.last.len()
    }

    pub fn report(self, failure: Option<String>) -> Report {
        let missing = self.due().saturating_sub(self.each.len());
        let incomplete = (missing > 0).then(|| {
            let due = self.due();
            format!("{missing} of {due} events did not arrive in time")
        });
        Report {
            problem: failure.or(incomplete),
            each: Percentiles::of(self.each),
            last: Percentiles::of(self.last),
        }
    }
}

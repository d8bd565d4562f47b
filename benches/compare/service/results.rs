//! What was measured, and what the rows of the table mean.

use std::collections::{BTreeMap, BTreeSet};

use crate::figures::Figures;
use crate::rivals::{BARE_HYPER, FULLON};

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Row {
    Start,
    /// 1 for a start command that returned before `/health` answered, else 0.
    Early,
    Stop,
    Status,
    Memory,
    WakeUps,
    Size,
    Load,
    Tail,
}

/// What fullon should reach.
pub enum Target {
    AtMost(f64),
    /// Of the bound's figure.
    Share(f64),
    /// It is shown for who compares.
    None,
}

impl Row {
    pub const ALL: [Self; 9] = [
        Self::Start,
        Self::Early,
        Self::Stop,
        Self::Status,
        Self::Memory,
        Self::WakeUps,
        Self::Size,
        Self::Load,
        Self::Tail,
    ];

    pub fn label(self) -> &'static str {
        match self {
            Self::Start => "start to first 200, ms",
            Self::Early => "start returned too early",
            Self::Stop => "stop to processes gone, ms",
            Self::Status => "status, ms",
            Self::Memory => "idle memory, MB",
            Self::WakeUps => "idle wake-ups a second",
            Self::Size => "stripped binary, MB",
            Self::Load => "/health, requests a second",
            Self::Tail => "/health p99 at that load, ms",
        }
    }

    pub fn target(self) -> Target {
        match self {
            Self::Start => Target::AtMost(15.0),
            Self::Early => Target::AtMost(0.0),
            Self::Stop | Self::Status | Self::Size => Target::AtMost(10.0),
            Self::Memory => Target::AtMost(8.0),
            Self::WakeUps => Target::AtMost(1.0),
            Self::Load => Target::Share(0.85),
            Self::Tail => Target::None,
        }
    }

    /// Digits behind the point.
    pub fn decimals(self) -> usize {
        match self {
            Self::Early | Self::Load => 0,
            Self::Start | Self::Stop | Self::Status | Self::Memory | Self::WakeUps => 1,
            Self::Size | Self::Tail => 2,
        }
    }

    /// Whom fullon is compared with, where it is not the best of the rivals.
    fn named_bound(self) -> Option<&'static str> {
        matches!(self, Self::Load | Self::Tail).then_some(BARE_HYPER)
    }
}

/// All figures of a run.
pub struct Results {
    pub contenders: Vec<&'static str>,
    figures: Figures<Row>,
    threads: BTreeMap<(&'static str, String), Vec<u64>>,
    failed: BTreeSet<&'static str>,
    /// How much of the machine was used in each idle time, in percent.
    pub disturbance: Vec<f64>,
    /// Throughput over that of bare hyper, in each turn.
    pub ratios: Vec<f64>,
    /// How much of the machine its host gave to others while servers were loaded, by round, in percent.
    pub stolen: Vec<f64>,
}

impl Results {
    pub fn new(contenders: impl Iterator<Item = &'static str>) -> Self {
        Self {
            contenders: contenders.collect(),
            figures: Figures::new(),
            threads: BTreeMap::new(),
            failed: BTreeSet::new(),
            disturbance: Vec::new(),
            ratios: Vec::new(),
            stolen: Vec::new(),
        }
    }

    pub fn add(&mut self, contender: &'static str, row: Row, figure: f64) {
        self.figures.add(contender, row, figure);
    }

    /// Wake-ups of one idle time, by name of the thread.
    pub fn add_threads(&mut self, contender: &'static str, threads: BTreeMap<String, u64>) {
        for (name, count) in threads {
            self.threads
                .entry((contender, name))
                .or_default()
                .push(count);
        }
    }

    pub fn fail(&mut self, contender: &'static str) {
        self.failed.insert(contender);
    }

    pub fn has_failed(&self, contender: &str) -> bool {
        self.failed.contains(contender)
    }

    /// By round or by turn, without those that failed.
    pub fn figures(&self, row: Row, contender: &'static str) -> &[f64] {
        self.figures.all(row, contender)
    }

    /// The median; for [`Row::Early`], how many starts.
    pub fn figure(&self, row: Row, contender: &'static str) -> Option<f64> {
        let figures = self.figures(row, contender);
        match row {
            Row::Early if !figures.is_empty() => Some(figures.iter().sum()),
            _ => self.figures.median(row, contender),
        }
    }

    /// Whom fullon is compared with, and that one's figure.
    pub fn bound(&self, row: Row) -> Option<(&'static str, f64)> {
        let figure_of = |name| self.figure(row, name).map(|figure| (name, figure));
        match row.named_bound() {
            Some(name) => figure_of(name),
            None => self
                .contenders
                .iter()
                .filter(|name| **name != FULLON)
                .filter_map(|name| figure_of(name))
                .min_by(|left, right| left.1.total_cmp(&right.1)),
        }
    }

    /// Wake-ups in each idle time, by thread of fullon, busiest first.
    pub fn fullon_threads(&self) -> Vec<(&str, &[u64])> {
        let mut threads: Vec<(&str, &[u64])> = self
            .threads
            .iter()
            .filter(|((contender, _), _)| *contender == FULLON)
            .map(|((_, thread), counts)| (thread.as_str(), counts.as_slice()))
            .collect();
        threads.sort_by_key(|(_, counts)| std::cmp::Reverse(counts.iter().sum::<u64>()));
        threads
    }
}

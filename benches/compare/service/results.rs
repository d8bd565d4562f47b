//! The rows of the service table, and the figures of a run.

use std::collections::{BTreeMap, BTreeSet};

use crate::baseline::{Better, Measured};
use crate::figures::Figures;
use crate::rivals::{BARE_HYPER, FULLON};
use crate::table::Target;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServiceRow {
    Start,
    /// 1 if the start command returned before `/health` answered, else 0.
    EarlyReturn,
    Stop,
    Status,
    Memory,
    WakeUps,
    Size,
    Load,
    P99,
    /// Throughput of `/health/live`, which goes through the router. `/health` does not.
    Routed,
}

impl ServiceRow {
    pub const ALL: [Self; 10] = [
        Self::Start,
        Self::EarlyReturn,
        Self::Stop,
        Self::Status,
        Self::Memory,
        Self::WakeUps,
        Self::Size,
        Self::Load,
        Self::P99,
        Self::Routed,
    ];

    pub fn label(self) -> &'static str {
        match self {
            Self::Start => "start to first 200, ms",
            Self::EarlyReturn => "start returned too early",
            Self::Stop => "stop to processes gone, ms",
            Self::Status => "status, ms",
            Self::Memory => "idle memory, MB",
            Self::WakeUps => "idle wake-ups a second",
            Self::Size => "stripped binary, MB",
            Self::Load => "/health, requests a second",
            Self::P99 => "/health p99 at that load, ms",
            Self::Routed => "/health/live (routed), requests a second",
        }
    }

    pub fn target(self) -> Option<Target> {
        let max = match self {
            Self::Load => return Some(Target::RatioAtLeast(0.85, BARE_HYPER)),
            Self::P99 | Self::Routed => return None,
            Self::EarlyReturn => 0.0,
            Self::WakeUps => 1.0,
            Self::Memory => 8.0,
            Self::Stop | Self::Status | Self::Size => 10.0,
            Self::Start => 15.0,
        };
        Some(Target::AtMost(max))
    }

    /// Digits after the decimal point.
    pub fn decimals(self) -> usize {
        match self {
            Self::EarlyReturn | Self::Load | Self::Routed => 0,
            Self::Start | Self::Stop | Self::Status | Self::Memory | Self::WakeUps => 1,
            Self::Size | Self::P99 => 2,
        }
    }

    pub fn better(self) -> Better {
        match self {
            Self::Load | Self::Routed => Better::Higher,
            _ => Better::Lower,
        }
    }

    /// The contender that fullon is compared with, unless it is the best rival.
    fn fixed_baseline(self) -> Option<&'static str> {
        matches!(self, Self::Load | Self::P99 | Self::Routed).then_some(BARE_HYPER)
    }
}

/// All figures of a run.
pub struct Results {
    pub contenders: Vec<&'static str>,
    figures: Figures<ServiceRow>,
    threads: BTreeMap<(&'static str, String), Vec<u64>>,
    failed: BTreeSet<&'static str>,
    /// CPU time that other programs used in each idle time, in percent.
    pub background_load: Vec<f64>,
    /// Fullon's throughput divided by that of bare hyper, in each turn.
    pub turn_ratios: Vec<f64>,
    /// CPU time that the host took while servers were loaded, by round, in percent.
    pub stolen: Vec<f64>,
}

impl Results {
    pub fn new(contenders: impl Iterator<Item = &'static str>) -> Self {
        Self {
            contenders: contenders.collect(),
            figures: Figures::new(),
            threads: BTreeMap::new(),
            failed: BTreeSet::new(),
            background_load: Vec::new(),
            turn_ratios: Vec::new(),
            stolen: Vec::new(),
        }
    }

    pub fn add(&mut self, contender: &'static str, row: ServiceRow, figure: f64) {
        self.figures.add(contender, row, figure);
    }

    /// Adds the wake-ups of one idle time, by thread name.
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

    /// The figures of the rounds or turns that succeeded.
    pub fn figures(&self, row: ServiceRow, contender: &'static str) -> &[f64] {
        self.figures.values(row, contender)
    }

    /// The median; for [`ServiceRow::EarlyReturn`], the number of such starts.
    pub fn figure(&self, row: ServiceRow, contender: &'static str) -> Option<f64> {
        let figures = self.figures(row, contender);
        match row {
            ServiceRow::EarlyReturn if !figures.is_empty() => Some(figures.iter().sum()),
            _ => self.figures.median(row, contender),
        }
    }

    /// The contender that fullon is compared with, and its figure.
    pub fn baseline(&self, row: ServiceRow) -> Option<(&'static str, f64)> {
        let figure_of = |name| self.figure(row, name).map(|figure| (name, figure));
        match row.fixed_baseline() {
            Some(name) => figure_of(name),
            None => self
                .contenders
                .iter()
                .filter(|name| **name != FULLON)
                .filter_map(|name| figure_of(name))
                .min_by(|left, right| left.1.total_cmp(&right.1)),
        }
    }

    /// Fullon's figures, for a comparison with another version. Throughput is a share of bare
    /// hyper's.
    pub fn measured(&self) -> Vec<Measured> {
        let measured = |row: ServiceRow| {
            let own = self.figure(row, FULLON)?;
            let figure = match row.better() {
                Better::Higher => own / self.figure(row, BARE_HYPER)?,
                Better::Lower => own,
            };
            Some(Measured {
                row: format!("{row:?}"),
                label: row.label(),
                figure,
                better: row.better(),
            })
        };
        ServiceRow::ALL.into_iter().filter_map(measured).collect()
    }

    /// Fullon's wake-ups in each idle time by thread, the busiest thread first.
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

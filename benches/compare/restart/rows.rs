//! The rows of the restart table.

use crate::baseline::{Better, Measured};
use crate::figures::Figures;
use crate::rivals::FULLON;
use crate::table::Target;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RestartRow {
    /// Requests without a response.
    FailedRequests,
    /// The longest time in which no client received a response.
    LongestGap,
    /// Time that the restart commands take.
    CommandTime,
}

impl RestartRow {
    pub const ALL: [Self; 3] = [Self::FailedRequests, Self::LongestGap, Self::CommandTime];

    pub fn label(self) -> &'static str {
        match self {
            Self::FailedRequests => "requests failed in a restart, mean",
            Self::LongestGap => "longest time without an answer, ms",
            Self::CommandTime => "commands of a restart, ms",
        }
    }

    /// The median; for failures the mean, so that a single failure shows.
    #[expect(clippy::cast_precision_loss, reason = "a count far below 2^52")]
    pub fn figure(self, figures: &Figures<Self>, name: &'static str) -> Option<f64> {
        match (self, figures.values(self, name)) {
            (Self::FailedRequests, all) if !all.is_empty() => {
                Some(all.iter().sum::<f64>() / all.len() as f64)
            }
            _ => figures.median(self, name),
        }
    }

    pub fn target(self) -> Option<Target> {
        (self == Self::FailedRequests).then_some(Target::AtMost(0.0))
    }

    /// Digits after the decimal point.
    pub fn decimals(self) -> usize {
        match self {
            Self::FailedRequests => 2,
            Self::LongestGap | Self::CommandTime => 1,
        }
    }
}

/// Fullon's figures, for a comparison with another version.
pub fn measured(figures: &Figures<RestartRow>) -> Vec<Measured> {
    let measured = |row: RestartRow| {
        Some(Measured {
            row: format!("{row:?}"),
            label: row.label(),
            figure: row.figure(figures, FULLON)?,
            better: Better::Lower,
        })
    };
    RestartRow::ALL.into_iter().filter_map(measured).collect()
}

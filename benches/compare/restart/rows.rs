//! What the rows of the table about restarts mean.

use crate::figures::Figures;

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Row {
    /// Requests without an answer.
    Failed,
    /// The longest time in which nobody had an answer.
    Gap,
    /// The commands of the restart.
    Took,
}

impl Row {
    pub const ALL: [Self; 3] = [Self::Failed, Self::Gap, Self::Took];

    pub fn label(self) -> &'static str {
        match self {
            Self::Failed => "requests failed in a restart, mean",
            Self::Gap => "longest time without an answer, ms",
            Self::Took => "commands of a restart, ms",
        }
    }

    /// The median; of failures the mean, because a single one counts.
    #[expect(clippy::cast_precision_loss, reason = "a count far below 2^52")]
    pub fn figure(self, figures: &Figures<Self>, name: &'static str) -> Option<f64> {
        match (self, figures.all(self, name)) {
            (Self::Failed, all) if !all.is_empty() => {
                Some(all.iter().sum::<f64>() / all.len() as f64)
            }
            _ => figures.median(self, name),
        }
    }

    /// What fullon should reach at most.
    pub fn target(self) -> Option<f64> {
        (self == Self::Failed).then_some(0.0)
    }

    /// Digits behind the point.
    pub fn decimals(self) -> usize {
        match self {
            Self::Failed => 2,
            Self::Gap | Self::Took => 1,
        }
    }
}

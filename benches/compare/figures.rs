//! The figures of all rounds, by table row and contender.

use std::collections::BTreeMap;

pub struct Figures<Row>(BTreeMap<(Row, &'static str), Vec<f64>>);

impl<Row: Copy + Ord> Figures<Row> {
    pub fn new() -> Self {
        Self(BTreeMap::new())
    }

    pub fn add(&mut self, contender: &'static str, row: Row, figure: f64) {
        self.0.entry((row, contender)).or_default().push(figure);
    }

    /// In the order in which they were added.
    pub fn values(&self, row: Row, contender: &'static str) -> &[f64] {
        self.0.get(&(row, contender)).map_or(&[], Vec::as_slice)
    }

    pub fn median(&self, row: Row, contender: &'static str) -> Option<f64> {
        median(self.values(row, contender))
    }
}

/// Smallest and largest figure, if there are at least two.
pub fn range(figures: &[f64], decimals: usize) -> String {
    match figures {
        [first, _, ..] => {
            let min = figures.iter().copied().fold(*first, f64::min);
            let max = figures.iter().copied().fold(*first, f64::max);
            format!("{min:.decimals$} to {max:.decimals$}")
        }
        _ => String::new(),
    }
}

pub fn median(figures: &[f64]) -> Option<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    Some(if sorted.len() % 2 == 1 {
        upper
    } else {
        f64::midpoint(sorted[middle - 1], upper)
    })
}

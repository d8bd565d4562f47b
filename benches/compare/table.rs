//! The parts that all tables share: the heading, the targets and the layout.

use std::fmt::Write as _;

/// The target for fullon.
pub enum Target {
    AtMost(f64),
    /// At most this multiple of the baseline's figure.
    RatioAtMost(f64),
    /// At least this multiple of the figure of the named contender.
    RatioAtLeast(f64, &'static str),
}

impl Target {
    /// The target as text, and whether the figure meets it.
    pub fn verdict(&self, own: Option<f64>, baseline: Option<(&'static str, f64)>) -> String {
        let pair = own.zip(baseline.map(|(_, figure)| figure));
        let (target, is_met) = match *self {
            Self::AtMost(max) => (format!("<= {max}"), own.map(|own| own <= max)),
            Self::RatioAtMost(ratio) => {
                let name = baseline.map_or("the bound", |(name, _)| name);
                let is_met = pair.map(|(own, figure)| own <= ratio * figure);
                (format!("<= {ratio} of {name}"), is_met)
            }
            Self::RatioAtLeast(ratio, name) => {
                let is_met = pair.map(|(own, figure)| own >= ratio * figure);
                (format!(">= {ratio} of {name}"), is_met)
            }
        };
        match is_met {
            Some(true) => format!("{target}: met"),
            Some(false) => format!("{target}: MISSED"),
            None => format!("{target}: not measured"),
        }
    }
}

/// The first line of a table: its title, the contenders, and the columns about fullon.
pub fn heading(title: &str, contenders: &[&'static str]) -> Vec<String> {
    let mut cells = vec![title];
    cells.extend(contenders);
    cells.extend(["fullon's range", "fullon's ratio", "target"]);
    cells.into_iter().map(str::to_owned).collect()
}

/// A Markdown table whose columns are aligned for reading as text.
pub fn markdown_table(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            lines
                .iter()
                .map(|line| line[column].len())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        for (cell, width) in line.iter().zip(&widths) {
            let _ = write!(text, "| {cell:<width$} ");
        }
        text.push_str("|\n");
        if number == 0 {
            for width in &widths {
                let _ = write!(text, "|-{:-<width$}-", "");
            }
            text.push_str("|\n");
        }
    }
    text
}

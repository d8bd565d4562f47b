//! The table about the log as text.

use std::fmt::Write as _;

use super::rows::{CONTENDERS, Row, Target};
use crate::figures::{Figures, range};
use crate::rivals::FULLON;
use crate::table::aligned;

pub fn render(figures: &Figures<Row>) -> String {
    let mut heading = vec!["the log".to_owned()];
    heading.extend(CONTENDERS.map(str::to_owned));
    heading.extend(["fullon's range", "fullon's ratio", "target"].map(str::to_owned));
    let mut lines = vec![heading];
    lines.extend(Row::ALL.map(|row| line(figures, row)));
    let mut text = aligned(&lines);
    if let (Some(less), Some(more)) = (
        figures.median(Row::Last50, FULLON),
        figures.median(Row::Last50OfMore, FULLON),
    ) {
        let _ = writeln!(
            text,
            "\nlast 50 lines, of 10 GiB over of 1 GiB: {:.2}",
            more / less
        );
    }
    text
}

fn line(figures: &Figures<Row>, row: Row) -> Vec<String> {
    let decimals = row.decimals();
    let mut cells = vec![row.label().to_owned()];
    cells.extend(CONTENDERS.map(|name| {
        figures
            .median(row, name)
            .map_or_else(String::new, |figure| format!("{figure:.decimals$}"))
    }));
    cells.push(range(figures.all(row, FULLON), row.decimals()));
    let own = figures.median(row, FULLON);
    let bound = row.bound(figures);
    cells.push(match (own, bound) {
        (Some(own), Some((name, figure))) if figure > 0.0 => {
            format!("{:.2} of {name}", own / figure)
        }
        _ => String::new(),
    });
    cells.push(verdict(row, own, bound));
    cells
}

fn verdict(row: Row, own: Option<f64>, bound: Option<(&'static str, f64)>) -> String {
    let (target, is_met) = match row.target() {
        None if own.is_none() => return "not measured".to_owned(),
        None => return String::new(),
        Some(Target::AtMost(most)) => (format!("<= {most}"), own.map(|own| own <= most)),
        Some(Target::Times(times)) => (
            match bound {
                Some((name, _)) => format!("<= {times} of {name}"),
                None => format!("<= {times} of the bound"),
            },
            own.zip(bound)
                .map(|(own, (_, figure))| own <= times * figure),
        ),
    };
    match is_met {
        Some(true) => format!("{target}: met"),
        Some(false) => format!("{target}: MISSED"),
        None => format!("{target}: not measured"),
    }
}

//! The table about restarts as text.

use super::rows::Row;
use super::ways::NOTHING;
use crate::figures::{Figures, range};
use crate::rivals::FULLON;
use crate::table::aligned;

pub fn render(figures: &Figures<Row>, names: &[&'static str]) -> String {
    let mut heading = vec!["restarts".to_owned()];
    heading.extend(names.iter().map(|name| (*name).to_owned()));
    heading.extend(["fullon's range", "fullon's ratio", "target"].map(str::to_owned));
    let mut lines = vec![heading];
    lines.extend(Row::ALL.map(|row| line(figures, names, row)));
    aligned(&lines)
}

fn line(figures: &Figures<Row>, names: &[&'static str], row: Row) -> Vec<String> {
    let decimals = row.decimals();
    let mut cells = vec![row.label().to_owned()];
    cells.extend(names.iter().map(|name| {
        row.figure(figures, name)
            .map_or_else(String::new, |figure| format!("{figure:.decimals$}"))
    }));
    cells.push(range(figures.all(row, FULLON), row.decimals()));
    let own = row.figure(figures, FULLON);
    let best = names
        .iter()
        .filter(|name| ![FULLON, NOTHING].contains(name))
        .filter_map(|name| Some((*name, row.figure(figures, name)?)))
        .min_by(|left, right| left.1.total_cmp(&right.1));
    cells.push(match (own, best) {
        (Some(own), Some((name, best))) if best > 0.0 => format!("{:.2} of {name}", own / best),
        (Some(_), Some((name, _))) => format!("{name}: 0"),
        _ => String::new(),
    });
    cells.push(match (row.target(), own) {
        (None, _) => String::new(),
        (Some(most), None) => format!("<= {most}: not measured"),
        (Some(most), Some(own)) if own <= most => format!("<= {most}: met"),
        (Some(most), Some(_)) => format!("<= {most}: MISSED"),
    });
    cells
}

//! The log table as text.

use std::fmt::Write as _;

use super::rows::{CONTENDERS, LogRow};
use crate::figures::{Figures, range};
use crate::rivals::FULLON;
use crate::table::{heading, markdown_table};

pub fn render(figures: &Figures<LogRow>) -> String {
    let mut lines = vec![heading("the log", &CONTENDERS)];
    lines.extend(LogRow::ALL.map(|row| render_row(figures, row)));
    let mut text = markdown_table(&lines);
    if let (Some(less), Some(more)) = (
        figures.median(LogRow::Last50, FULLON),
        figures.median(LogRow::Last50Of10Gib, FULLON),
    ) {
        let _ = writeln!(
            text,
            "\nlast 50 lines, of 10 GiB over of 1 GiB: {:.2}",
            more / less
        );
    }
    text
}

fn render_row(figures: &Figures<LogRow>, row: LogRow) -> Vec<String> {
    let decimals = row.decimals();
    let mut cells = vec![row.label().to_owned()];
    cells.extend(CONTENDERS.map(|name| {
        figures
            .median(row, name)
            .map_or_else(String::new, |figure| format!("{figure:.decimals$}"))
    }));
    cells.push(range(figures.values(row, FULLON), row.decimals()));
    let own = figures.median(row, FULLON);
    let baseline = row.baseline(figures);
    cells.push(match (own, baseline) {
        (Some(own), Some((name, figure))) if figure > 0.0 => {
            format!("{:.2} of {name}", own / figure)
        }
        _ => String::new(),
    });
    cells.push(match row.target() {
        Some(target) => target.verdict(own, baseline),
        None if own.is_none() => "not measured".to_owned(),
        None => String::new(),
    });
    cells
}

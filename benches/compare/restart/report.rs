//! The restart table as text.

use super::methods::NO_RESTART;
use super::rows::RestartRow;
use crate::figures::{Figures, range};
use crate::rivals::FULLON;
use crate::table::{heading, markdown_table};

pub fn render(figures: &Figures<RestartRow>, names: &[&'static str]) -> String {
    let mut lines = vec![heading("restarts", names)];
    lines.extend(RestartRow::ALL.map(|row| render_row(figures, names, row)));
    markdown_table(&lines)
}

fn render_row(
    figures: &Figures<RestartRow>,
    names: &[&'static str],
    row: RestartRow,
) -> Vec<String> {
    let decimals = row.decimals();
    let mut cells = vec![row.label().to_owned()];
    cells.extend(names.iter().map(|name| {
        row.figure(figures, name)
            .map_or_else(String::new, |figure| format!("{figure:.decimals$}"))
    }));
    cells.push(range(figures.values(row, FULLON), row.decimals()));
    let own = row.figure(figures, FULLON);
    let best = names
        .iter()
        .filter(|name| ![FULLON, NO_RESTART].contains(name))
        .filter_map(|name| Some((*name, row.figure(figures, name)?)))
        .min_by(|left, right| left.1.total_cmp(&right.1));
    cells.push(match (own, best) {
        (Some(own), Some((name, best))) if best > 0.0 => format!("{:.2} of {name}", own / best),
        (Some(_), Some((name, _))) => format!("{name}: 0"),
        _ => String::new(),
    });
    let verdict = row.target().map(|target| target.verdict(own, best));
    cells.push(verdict.unwrap_or_default());
    cells
}

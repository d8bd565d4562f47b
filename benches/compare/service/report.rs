//! The figures as text: one Markdown table, and what does not fit into it.

use std::fmt::Write as _;

use crate::figures;
use crate::results::{Results, Row, Target};
use crate::rivals::{BARE_HYPER, FULLON, NGINX};

/// Of nginx's throughput; bare hyper has about 0.9 of it.
const SHARE_OF_NGINX: f64 = 0.75;

/// The whole report.
pub fn render(results: &Results) -> String {
    let mut lines = vec![heading(results)];
    lines.extend(Row::ALL.map(|row| line(results, row)));
    let mut text = aligned(&lines);
    throughput(results, &mut text);
    wake_ups(results, &mut text);
    disturbance(results, &mut text);
    text
}

fn heading(results: &Results) -> Vec<String> {
    let mut cells = vec![String::new()];
    cells.extend(results.contenders.iter().map(|name| (*name).to_owned()));
    cells.extend(["fullon's range", "fullon's ratio", "target"].map(str::to_owned));
    cells
}

fn line(results: &Results, row: Row) -> Vec<String> {
    let decimals = row.decimals();
    let mut cells = vec![row.label().to_owned()];
    cells.extend(results.contenders.iter().map(|name| {
        let Some(figure) = results.figure(row, name) else {
            return String::new();
        };
        match row {
            Row::Early => format!("{figure} of {}", results.figures(row, name).len()),
            _ => format!("{figure:.decimals$}"),
        }
    }));
    cells.push(range(results, row));
    let own = results.figure(row, FULLON);
    let bound = results.bound(row);
    cells.push(match (own, bound) {
        (Some(_), Some((name, 0.0))) => format!("{name}: 0"),
        (Some(own), Some((name, figure))) => format!("{:.2} of {name}", own / figure),
        _ => String::new(),
    });
    let (target, is_met) = match row.target() {
        Target::AtMost(most) => (format!("<= {most}"), own.map(|own| own <= most)),
        Target::Share(least) => (
            format!(">= {least} of {BARE_HYPER}"),
            own.zip(bound)
                .map(|(own, (_, figure))| own >= least * figure),
        ),
        Target::None => {
            cells.push(String::new());
            return cells;
        }
    };
    cells.push(match is_met {
        Some(true) => format!("{target}: met"),
        Some(false) => format!("{target}: MISSED"),
        None => format!("{target}: not measured"),
    });
    cells
}

/// How far fullon's own rounds are apart: a wide range means a busy machine.
fn range(results: &Results, row: Row) -> String {
    let figures = results.figures(row, FULLON);
    if row == Row::Early {
        return String::new();
    }
    figures::range(figures, row.decimals())
}

/// A Markdown table that can be read as text, too.
pub fn aligned(lines: &[Vec<String>]) -> String {
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

/// Fullon over each of the others; and turn by turn over the bound, whose turns were seconds apart.
fn throughput(results: &Results, text: &mut String) {
    let Some(own) = results.figure(Row::Load, FULLON) else {
        return;
    };
    let ratios: Vec<String> = results
        .contenders
        .iter()
        .filter(|name| **name != FULLON)
        .filter_map(|name| Some((name, results.figure(Row::Load, name)?)))
        .map(|(name, figure)| match (*name, own / figure) {
            (NGINX, ratio) if ratio >= SHARE_OF_NGINX => {
                format!("{name} {ratio:.2} (>= {SHARE_OF_NGINX}: met)")
            }
            (NGINX, ratio) => format!("{name} {ratio:.2} (>= {SHARE_OF_NGINX}: MISSED)"),
            (name, ratio) => format!("{name} {ratio:.2}"),
        })
        .collect();
    let _ = writeln!(
        text,
        "\n/health throughput, fullon over: {}",
        ratios.join(", ")
    );
    if let Some(middle) = figures::median(&results.ratios) {
        let range = figures::range(&results.ratios, 2);
        let _ = writeln!(
            text,
            "turn by turn, over {BARE_HYPER}: median {middle:.2}, {range}"
        );
    }
}

fn wake_ups(results: &Results, text: &mut String) {
    let threads: Vec<String> = results
        .fullon_threads()
        .into_iter()
        .map(|(name, counts)| format!("{name} {counts:?}"))
        .collect();
    if !threads.is_empty() {
        let _ = writeln!(
            text,
            "fullon's wake-ups while idle, by thread and round: {}",
            threads.join(", ")
        );
    }
}

/// While a contender is idle, so is the benchmark: what is used then, others use, and times are too long by it.
fn disturbance(results: &Results, text: &mut String) {
    let shares = |shares: &[f64]| {
        let shares: Vec<String> = shares.iter().map(|share| format!("{share:.0}")).collect();
        shares.join(" ")
    };
    let _ = writeln!(
        text,
        "others used of the machine while a contender was idle, %: {}",
        shares(&results.disturbance)
    );
    let _ = writeln!(
        text,
        "its host gave to others while servers were loaded, by round, %: {}",
        shares(&results.stolen)
    );
}

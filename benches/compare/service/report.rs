//! The service table as text, and the lines below it.

use std::fmt::Write as _;

use super::results::{Results, ServiceRow};
use crate::figures;
use crate::rivals::{BARE_HYPER, FULLON, NGINX};
use crate::table::{heading, markdown_table};

/// Target as a share of nginx's throughput. Bare hyper reaches about 0.9.
const NGINX_SHARE_TARGET: f64 = 0.75;

pub fn render(results: &Results) -> String {
    let mut lines = vec![heading("", &results.contenders)];
    lines.extend(ServiceRow::ALL.map(|row| render_row(results, row)));
    let mut text = markdown_table(&lines);
    write_throughput(results, &mut text);
    write_wake_ups(results, &mut text);
    write_background_load(results, &mut text);
    text
}

fn render_row(results: &Results, row: ServiceRow) -> Vec<String> {
    let decimals = row.decimals();
    let mut cells = vec![row.label().to_owned()];
    cells.extend(results.contenders.iter().map(|name| {
        let Some(figure) = results.figure(row, name) else {
            return String::new();
        };
        match row {
            ServiceRow::EarlyReturn => format!("{figure} of {}", results.figures(row, name).len()),
            _ => format!("{figure:.decimals$}"),
        }
    }));
    cells.push(fullon_range(results, row));
    let own = results.figure(row, FULLON);
    let baseline = results.baseline(row);
    cells.push(match (own, baseline) {
        (Some(_), Some((name, 0.0))) => format!("{name}: 0"),
        (Some(own), Some((name, figure))) => format!("{:.2} of {name}", own / figure),
        _ => String::new(),
    });
    let verdict = row.target().map(|target| target.verdict(own, baseline));
    cells.push(verdict.unwrap_or_default());
    cells
}

/// Smallest and largest figure of fullon's rounds. A wide range means a busy machine.
fn fullon_range(results: &Results, row: ServiceRow) -> String {
    let figures = results.figures(row, FULLON);
    if row == ServiceRow::EarlyReturn {
        return String::new();
    }
    figures::range(figures, row.decimals())
}

/// Fullon's throughput divided by that of each rival, and by the baseline in each turn. The loads
/// of a turn were only seconds apart.
fn write_throughput(results: &Results, text: &mut String) {
    let Some(own) = results.figure(ServiceRow::Load, FULLON) else {
        return;
    };
    let ratios: Vec<String> = results
        .contenders
        .iter()
        .filter(|name| **name != FULLON)
        .filter_map(|name| Some((name, results.figure(ServiceRow::Load, name)?)))
        .map(|(name, figure)| match (*name, own / figure) {
            (NGINX, ratio) if ratio >= NGINX_SHARE_TARGET => {
                format!("{name} {ratio:.2} (>= {NGINX_SHARE_TARGET}: met)")
            }
            (NGINX, ratio) => format!("{name} {ratio:.2} (>= {NGINX_SHARE_TARGET}: MISSED)"),
            (name, ratio) => format!("{name} {ratio:.2}"),
        })
        .collect();
    let _ = writeln!(
        text,
        "\n/health throughput, fullon over: {}",
        ratios.join(", ")
    );
    if let Some(middle) = figures::median(&results.turn_ratios) {
        let range = figures::range(&results.turn_ratios, 2);
        let _ = writeln!(
            text,
            "turn by turn, over {BARE_HYPER}: median {middle:.2}, {range}"
        );
    }
}

fn write_wake_ups(results: &Results, text: &mut String) {
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

/// How busy other programs kept the machine. Measured times are longer while they run.
fn write_background_load(results: &Results, text: &mut String) {
    let shares = |shares: &[f64]| {
        let shares: Vec<String> = shares.iter().map(|share| format!("{share:.0}")).collect();
        shares.join(" ")
    };
    let _ = writeln!(
        text,
        "others used of the machine while a contender was idle, %: {}",
        shares(&results.background_load)
    );
    let _ = writeln!(
        text,
        "its host gave to others while servers were loaded, by round, %: {}",
        shares(&results.stolen)
    );
}

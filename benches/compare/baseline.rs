//! The figures of the last release, in `benches/baseline.tsv`, and what became worse since.
//!
//! Throughput is a share of bare hyper's in the same run, so that it can be compared between machines.
//! Times and memory are comparable on a machine like the one that the file names.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

/// A smaller difference is noise.
const TOLERANCE: f64 = 0.10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    Higher,
    Lower,
}

/// A figure of fullon.
pub struct Measured {
    /// Name of the row in the file.
    pub row: String,
    pub label: &'static str,
    pub figure: f64,
    pub better: Better,
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/baseline.tsv")
}

/// Compares the rows of a table, or writes them to the file if `UPDATE_BASELINE` is set.
pub fn compare(table: &str, measured: &[Measured]) -> Result<String> {
    let path = path();
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let name = |row: &Measured| format!("{table}.{}", row.row);
    if std::env::var_os("UPDATE_BASELINE").is_some() {
        let new: BTreeMap<_, _> = measured.iter().map(|row| (name(row), row.figure)).collect();
        std::fs::write(&path, update(&text, &new))?;
        return Ok(format!("{table}: written to {}", path.display()));
    }
    let baseline = parse(&text)?;
    let rows: Vec<_> = measured
        .iter()
        .map(|row| (row, baseline.get(&name(row)).copied()))
        .collect();
    Ok(render(table, heading(&text), &rows))
}

/// The first line of the file: version and machine.
fn heading(text: &str) -> &str {
    let first = text.lines().next().unwrap_or_default();
    first.trim_start_matches("# ")
}

fn parse(text: &str) -> Result<BTreeMap<String, f64>> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (row, figure) = line.split_once('\t').context("a line without a tab")?;
            Ok((row.to_owned(), figure.parse()?))
        })
        .collect()
}

/// The text with these figures. Other lines stay.
fn update(text: &str, new: &BTreeMap<String, f64>) -> String {
    let row = |line: &str| line.split('\t').next().unwrap_or_default().to_owned();
    let mut lines: Vec<String> = text
        .lines()
        .filter(|line| !new.contains_key(&row(line)))
        .map(str::to_owned)
        .collect();
    lines.extend(new.iter().map(|(row, figure)| format!("{row}\t{figure}")));
    lines.join("\n") + "\n"
}

fn render(table: &str, heading: &str, rows: &[(&Measured, Option<f64>)]) -> String {
    let mut text = format!("{table}, compared with {heading}:\n");
    let mut worse = 0;
    for (row, before) in rows {
        let now = row.figure;
        let Some(before) = *before else {
            let _ = writeln!(text, "  NEW {}: {now:.3}", row.label);
            continue;
        };
        let (larger, smaller) = match row.better {
            Better::Higher => (before, now),
            Better::Lower => (now, before),
        };
        if larger > smaller * (1.0 + TOLERANCE) {
            worse += 1;
            let _ = writeln!(text, "  WORSE {}: {before} to {now:.3}", row.label);
        }
    }
    let _ = write!(
        text,
        "  {worse} of {} rows are more than {} % worse",
        rows.len(),
        TOLERANCE * 100.0
    );
    text
}

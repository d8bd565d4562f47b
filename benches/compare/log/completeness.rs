//! Checks that all events of several threads are in the log and its rotated files.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

pub const THREADS: usize = 4;
pub const EVENTS_PER_THREAD: usize = 25_000;
pub const THREAD_NAMES: [&str; THREADS] = ["one", "two", "three", "four"];

/// Checks that each event of each thread is there once and in order. Returns the number of files.
pub fn verify(log: &Path) -> Result<f64> {
    let files = oldest_first(log)?;
    let mut expected = [0; THREADS];
    for file in &files {
        let text = fs::read_to_string(file)?;
        for line in text.lines() {
            let Some(thread) = value(line, "server=\"", '"')
                .and_then(|name| THREAD_NAMES.iter().position(|known| *known == name))
            else {
                continue;
            };
            let number: usize = value(line, "duration_us=", ' ')
                .and_then(|number| number.parse().ok())
                .with_context(|| format!("a torn line: {line}"))?;
            ensure!(
                number == expected[thread],
                "event {number} of thread {} is where {} was due",
                THREAD_NAMES[thread],
                expected[thread]
            );
            expected[thread] += 1;
        }
    }
    ensure!(
        expected == [EVENTS_PER_THREAD; THREADS],
        "events are missing: {expected:?}"
    );
    Ok(f64::from(u32::try_from(files.len())?))
}

/// The rotated files, of which `LOG.1` is the newest, and the log.
fn oldest_first(log: &Path) -> Result<Vec<PathBuf>> {
    let name = log.file_name().and_then(OsStr::to_str).context("no name")?;
    let mut rotated = Vec::new();
    for entry in fs::read_dir(log.parent().context("no directory")?)? {
        let entry = entry?;
        let number = entry.file_name().to_str().and_then(|other| {
            let number = other.strip_prefix(name)?.strip_prefix('.')?;
            number.parse::<u32>().ok()
        });
        if let Some(number) = number {
            rotated.push((number, entry.path()));
        }
    }
    rotated.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
    let mut files: Vec<PathBuf> = rotated.into_iter().map(|(_, path)| path).collect();
    files.push(log.to_owned());
    Ok(files)
}

fn value<'a>(line: &'a str, label: &str, end: char) -> Option<&'a str> {
    let (_, rest) = line.split_once(label)?;
    Some(rest.split_once(end)?.0)
}

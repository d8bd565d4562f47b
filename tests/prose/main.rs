//! Checks all that people read: links lead somewhere, and the words are the field's.
//!
//! `make lint` runs this. CONTRIBUTING.md says how prose is written here.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails when a file cannot be read"
)]

mod links;
mod words;

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files under `directory` with one of these extensions, without what is built or fetched.
fn files(directory: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    const SKIPPED: [&str; 6] = [
        "target",
        "node_modules",
        "generated",
        ".git",
        "corpus",
        "images",
    ];
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !SKIPPED.contains(&name.as_str()) {
                found.extend(files(&path, extensions));
            }
        } else if path
            .extension()
            .is_some_and(|extension| extensions.iter().any(|wanted| extension == *wanted))
        {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn name(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

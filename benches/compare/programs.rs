//! Finds the rival programs.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// Where `install-rivals.sh` installs programs that are not system packages.
const RIVALS_DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/rivals");

/// A Python interpreter with `FastAPI` and uvicorn.
pub fn python() -> Result<OsString> {
    require_file(&Path::new(RIVALS_DIRECTORY).join("venv/bin/python"))
}

pub fn pm2() -> Result<OsString> {
    require_file(&Path::new(RIVALS_DIRECTORY).join("node_modules/.bin/pm2"))
}

/// The path, if it exists.
pub fn require_file(path: &Path) -> Result<OsString> {
    path.exists()
        .then(|| path.as_os_str().to_owned())
        .with_context(|| missing_message(&path.display()))
}

/// A system program. Not every `PATH` has the directories of daemons.
pub fn find_program(program: &str) -> Result<OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
        .map(OsString::from)
        .with_context(|| missing_message(&program))
}

fn missing_message(what: &dyn std::fmt::Display) -> String {
    format!("{what} is missing: sh benches/install-rivals.sh")
}

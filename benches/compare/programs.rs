//! Where the programs are that others have made.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// Where `install-rivals.sh` puts what is not a package of the system.
const INSTALLED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/rivals");

/// An interpreter that has `FastAPI` and uvicorn.
pub fn python() -> Result<OsString> {
    existing(&Path::new(INSTALLED).join("venv/bin/python"))
}

pub fn pm2() -> Result<OsString> {
    existing(&Path::new(INSTALLED).join("node_modules/.bin/pm2"))
}

/// The path, if there is something.
pub fn existing(path: &Path) -> Result<OsString> {
    path.exists()
        .then(|| path.as_os_str().to_owned())
        .with_context(|| missing(&path.display()))
}

/// A program of the system. Daemons are not on everybody's `PATH`.
pub fn installed(program: &str) -> Result<OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
        .map(OsString::from)
        .with_context(|| missing(&program))
}

fn missing(what: &dyn std::fmt::Display) -> String {
    format!("{what} is missing: sh benches/install-rivals.sh")
}

//! Libraries that change a system call of the program (`LD_PRELOAD`).

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Home, Outcome};

/// Builds `tests/it/support/NAME.c` in the home directory.
pub fn preload_library(home: &Home, name: &str) -> PathBuf {
    let library = home.path().join(format!("{name}.so"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/it/support/{name}.c"));
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]).arg(&library);
    Outcome::run(compiler.arg(source).arg("-ldl")).succeeds();
    library
}

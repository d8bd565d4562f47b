//! A copy of the program that a test can replace.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Home, Outcome};

/// `bin/fullon` in a home.
pub struct InstalledProgram {
    path: PathBuf,
}

impl InstalledProgram {
    /// Puts the built program there.
    pub fn install_in(home: &Home) -> Self {
        let path = home.path().join("bin/fullon");
        fs::create_dir(path.parent().unwrap()).unwrap();
        let program = Self { path };
        program.restore();
        program
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Starts the daemon from there.
    #[track_caller]
    pub fn start(&self, home: &Home) {
        Outcome::run(home.command(&self.path).arg("start")).succeeds();
    }

    /// A copy of the built program takes its place, as an update does it.
    pub fn restore(&self) {
        self.install(Path::new(env!("CARGO_BIN_EXE_fullon")));
    }

    /// Something else that can be run takes its place.
    pub fn replace(&self, content: impl AsRef<[u8]>) {
        let source = self.path.with_extension("source");
        fs::write(&source, content).unwrap();
        self.install(&source);
    }

    pub fn remove(&self) {
        fs::remove_file(&self.path).unwrap();
    }

    fn install(&self, source: &Path) {
        let new = self.path.with_extension("new");
        install_program(source, &new);
        fs::rename(new, &self.path).unwrap();
    }
}

/// Copies a program. Written by another process: while ours has it open for writing, so has whatever another test starts in
/// that moment, and what is open for writing cannot be run.
pub fn install_program(source: &Path, to: &Path) {
    let mut install = Command::new("install");
    Outcome::run(install.args(["-m", "755"]).arg(source).arg(to)).succeeds();
}

//! A copy of the program, which a test can replace.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Home, Outcome};

/// `bin/fullon` in a home directory.
pub struct InstalledProgram {
    path: PathBuf,
}

impl InstalledProgram {
    /// Installs the built program.
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

    /// Starts the daemon with this copy.
    #[track_caller]
    pub fn start(&self, home: &Home) {
        Outcome::run(home.command(&self.path).arg("start")).succeeds();
    }

    /// Replaces it by a copy of the built program, as an update does.
    pub fn restore(&self) {
        self.install(Path::new(env!("CARGO_BIN_EXE_fullon")));
    }

    /// Replaces it by another executable file.
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

/// Copies a program by another process. If this process had the file open for writing, a child that
/// another test starts at that moment would inherit the descriptor, and a file that is open for
/// writing cannot be executed.
pub fn install_program(source: &Path, to: &Path) {
    let mut install = Command::new("install");
    Outcome::run(install.args(["-m", "755"]).arg(source).arg(to)).succeeds();
}

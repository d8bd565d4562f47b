//! How the program runs itself again: which file it is, and with which arguments.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::config::{SettingsLocation, flag_name};

/// What service managers tell one process and no other: who it is, and which descriptors are its own.
const PER_PROCESS_VARIABLES: [&str; 4] =
    ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"];

/// What to start, and as if from where.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The program.
    pub program: PathBuf,
    /// Where its settings come from.
    pub settings_location: SettingsLocation,
    /// Environment variables beside those of this process.
    pub environment: BTreeMap<String, OsString>,
}

impl Launch {
    /// `PROGRAM run` with these arguments, without a stdin.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(file) = &self.settings_location.env_file {
            command.arg("--env-file").arg(file);
        }
        for (name, value) in &self.settings_location.flags {
            command.arg(format!("--{}={value}", flag_name(name)));
        }
        command
            .arg("run")
            .args(arguments)
            .envs(&self.environment)
            .current_dir(&self.settings_location.directory)
            .stdin(Stdio::null());
        for name in PER_PROCESS_VARIABLES {
            command.env_remove(name);
        }
        command
    }

    /// What has to be there and is not: the program, or the directory it runs in.
    #[must_use]
    pub fn missing_path(&self) -> Option<&Path> {
        [&self.settings_location.directory, &self.program]
            .into_iter()
            .find(|needed| !needed.exists())
            .map(PathBuf::as_path)
    }

    /// The program that is running, by the name it was called by: where that is a link, an upgrade may point it elsewhere.
    ///
    /// # Errors
    ///
    /// The system does not tell.
    pub fn current_program() -> io::Result<PathBuf> {
        let path = std::env::current_exe()?;
        // What Linux says once the file was replaced.
        let text = path.to_string_lossy();
        let path = match text.strip_suffix(" (deleted)") {
            Some(there) if !path.exists() => Path::new(there).to_owned(),
            _ => path,
        };
        let called = std::env::args_os()
            .next()
            .and_then(|name| find_command(&name));
        Ok(called
            .filter(|called| is_same_file(called, &path))
            .unwrap_or(path))
    }
}

/// The file that a shell would run for this word.
fn find_command(word: &OsString) -> Option<PathBuf> {
    let word = Path::new(word);
    if word.components().count() > 1 {
        return std::path::absolute(word).ok();
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|directory| directory.join(word))
        .find(|file| file.is_absolute() && file.is_file())
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    match (one.metadata(), other.metadata()) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    }
}

//! How the program runs itself again: its file and its arguments.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::config::{APP_COMMAND, AppCommand, SettingsLocation, flag_name};
use crate::sys::{ORIGINAL_LIMITS, find_program, is_same_file, original_limits};

/// Variables that a service manager sets for one process only, to name its PID and descriptors.
const PER_PROCESS_VARIABLES: [&str; 4] =
    ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"];

/// A program, and the settings to run it with.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Path of the program.
    pub program: PathBuf,
    /// Where its settings come from.
    pub settings_location: SettingsLocation,
    /// Environment variables to set beside those of this process.
    pub environment: BTreeMap<String, OsString>,
}

impl Launch {
    /// The command `PROGRAM run` with these arguments, without stdin.
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
            .env(ORIGINAL_LIMITS, original_limits().to_text())
            .current_dir(&self.settings_location.directory)
            .env("PWD", &self.settings_location.directory)
            .stdin(Stdio::null());
        for name in PER_PROCESS_VARIABLES {
            command.env_remove(name);
        }
        command
    }

    /// This launch with another command of the application.
    #[must_use]
    pub fn with_app_command(&self, command: &AppCommand) -> Self {
        let mut launch = self.clone();
        let flags = &mut launch.settings_location.flags;
        flags.insert(APP_COMMAND.into(), command.to_string());
        launch
    }

    /// The directory or the program, if it does not exist.
    #[must_use]
    pub fn missing_path(&self) -> Option<&Path> {
        [&self.settings_location.directory, &self.program]
            .into_iter()
            .find(|path| !path.exists())
            .map(PathBuf::as_path)
    }

    /// The program that is running, by the name it was called by. If that is a symbolic link, an
    /// upgrade may point it to another file.
    ///
    /// # Errors
    ///
    /// The system does not tell.
    pub fn current_program() -> io::Result<PathBuf> {
        let path = std::env::current_exe()?;
        // Linux appends this once the file was replaced.
        let text = path.to_string_lossy();
        let path = match text.strip_suffix(" (deleted)") {
            Some(original) if !path.exists() => Path::new(original).to_owned(),
            _ => path,
        };
        let called = std::env::args_os()
            .next()
            .and_then(|name| {
                let path = std::env::var_os("PATH");
                let directory = std::env::current_dir().ok()?;
                find_program(&name, path.as_deref(), &directory).ok()
            })
            .filter(|called| refer_to_same_file(called, &path));
        Ok(called.unwrap_or(path))
    }
}

fn refer_to_same_file(one: &Path, other: &Path) -> bool {
    match (one.metadata(), other.metadata()) {
        (Ok(one), Ok(other)) => is_same_file(&one, &other),
        _ => false,
    }
}

//! The application that the daemon runs: `APP_…`.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::num::{NonZeroU16, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use super::app_command::AppCommand;
use super::parse::{duration, shutdown_timeout};
use super::paths::expand_path;
use super::sources::Sources;
use super::validator::Validator;
use crate::sys::{ProgramError, find_program};

/// The application that the daemon runs.
#[derive(Clone, PartialEq, Eq)]
pub struct AppSettings {
    /// The command line of a worker.
    pub command: AppCommand,
    /// The working directory of a worker, resolved at each start.
    pub directory: PathBuf,
    /// The number of worker processes.
    pub workers: NonZeroU16,
    /// The path that shows whether a worker is ready. Without it any response to `GET /` does.
    pub ready_path: Option<String>,
    /// How long a worker may take until it is ready.
    pub start_timeout: Duration,
    /// How long a worker may take from SIGTERM to its exit, before it is killed.
    pub stop_timeout: Duration,
    /// How long a worker may take from the end of the request to the response headers; zero is no
    /// limit.
    pub timeout: Duration,
    /// How long a request waits for a ready worker.
    pub queue_timeout: Duration,
    /// The whole environment of a worker, except what names its address.
    pub environment: BTreeMap<OsString, OsString>,
}

/// The settings of the application that a reload changes. They are valid also without an
/// application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AppLimits {
    workers: NonZeroU16,
    start_timeout: Duration,
    stop_timeout: Duration,
    timeout: Duration,
    queue_timeout: Duration,
}

impl AppLimits {
    pub fn load(validator: &mut Validator<'_>) -> Option<Self> {
        let workers = validator.value("APP_WORKERS", worker_count);
        let start_timeout = validator.value("APP_START_TIMEOUT", start_timeout);
        let stop_timeout = validator.value("APP_STOP_TIMEOUT", shutdown_timeout);
        let timeout = validator.value("APP_TIMEOUT", response_timeout);
        let queue_timeout = validator.value("APP_QUEUE_TIMEOUT", queue_timeout);
        Some(Self {
            workers: workers?,
            start_timeout: start_timeout?,
            stop_timeout: stop_timeout?,
            timeout: timeout?,
            queue_timeout: queue_timeout?,
        })
    }
}

impl AppSettings {
    /// The application; `None` if there is none, or if a setting is invalid, which is recorded.
    pub(super) fn load(validator: &mut Validator<'_>, limits: Option<AppLimits>) -> Option<Self> {
        let sources = validator.sources;
        let command = validator.value("APP_COMMAND", AppCommand::parse);
        let directory = validator.value("APP_DIRECTORY", |text| existing_directory(text, sources));
        let ready_path = validator.value("APP_READY_PATH", request_path);
        let AppLimits {
            workers,
            start_timeout,
            stop_timeout,
            timeout,
            queue_timeout,
        } = limits?;
        let command = command?;
        let directory = directory.unwrap_or_else(|| sources.directory().to_owned());
        let environment = sources.worker_environment();
        Some(Self {
            environment: environment.for_worker(&command, &directory),
            command,
            directory,
            workers,
            ready_path,
            start_timeout,
            stop_timeout,
            timeout,
            queue_timeout,
        })
    }

    /// The file of the program.
    ///
    /// # Errors
    ///
    /// It does not exist, or this user cannot run it.
    pub fn find_program(&self) -> Result<PathBuf, ProgramError> {
        let search_path = self.environment.get(OsStr::new("PATH"));
        let search_path = search_path.map(OsString::as_os_str);
        find_program(self.program().as_ref(), search_path, &self.directory)
    }

    /// The first word of the command.
    #[must_use]
    pub fn program(&self) -> &str {
        self.command.words().first().map_or("", String::as_str)
    }

    /// These settings with other limits.
    pub(super) fn with_limits(self, limits: AppLimits) -> Self {
        let AppLimits {
            workers,
            start_timeout,
            stop_timeout,
            timeout,
            queue_timeout,
        } = limits;
        Self {
            workers,
            start_timeout,
            stop_timeout,
            timeout,
            queue_timeout,
            ..self
        }
    }
}

impl fmt::Debug for AppSettings {
    /// The environment contains secrets, so only its names are printed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppSettings")
            .field("command", &self.command)
            .field("directory", &self.directory)
            .field("workers", &self.workers)
            .field("ready_path", &self.ready_path)
            .field("start_timeout", &self.start_timeout)
            .field("stop_timeout", &self.stop_timeout)
            .field("timeout", &self.timeout)
            .field("queue_timeout", &self.queue_timeout)
            .field("environment", &self.environment.keys())
            .finish()
    }
}

fn worker_count(text: &str) -> Result<NonZeroU16, String> {
    const MAX: u16 = 1000;
    let count = if text == "auto" {
        // The cores that this process may use, or the quota of its cgroup.
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        u16::try_from(cores).map_or(MAX, |cores| cores.min(MAX))
    } else {
        text.parse().unwrap_or(0)
    };
    NonZeroU16::new(count)
        .filter(|count| count.get() <= MAX)
        .ok_or_else(|| format!("`{text}` is not a number from 1 to {MAX}, or auto"))
}

fn start_timeout(text: &str) -> Result<Duration, String> {
    duration(text)
        .filter(|timeout| (Duration::from_millis(100)..=Duration::from_mins(30)).contains(timeout))
        .ok_or_else(|| format!("`{text}` is not a duration such as 30s, from 100ms to 30m"))
}

fn response_timeout(text: &str) -> Result<Duration, String> {
    duration(text)
        .filter(|timeout| *timeout <= Duration::from_hours(24))
        .ok_or_else(|| {
            format!("`{text}` is not a duration such as 60s, from 0s to 1d, where 0 is no limit")
        })
}

fn queue_timeout(text: &str) -> Result<Duration, String> {
    duration(text)
        .filter(|timeout| *timeout <= Duration::from_hours(1))
        .ok_or_else(|| format!("`{text}` is not a duration such as 5s, from 0s to 1h"))
}

/// A directory by the name it is given, so that a link is followed again at each start of a worker.
fn existing_directory(text: &str, sources: &Sources) -> Result<PathBuf, String> {
    let path = expand_path(text, sources.home(), sources.directory())?;
    match path.metadata() {
        Ok(metadata) if metadata.is_dir() => Ok(path),
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(format!("`{text}` cannot be read: {error}"))
        }
        _ => Err(format!(
            "`{text}` is not a directory: create it, or correct the path"
        )),
    }
}

/// The path and the query of a request.
fn request_path(text: &str) -> Result<String, String> {
    let is_valid = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
    if text.starts_with('/') && text.bytes().all(is_valid) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "`{text}` is not a path such as /ready, which begins with `/`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_ranges() {
        assert_eq!(worker_count("1000").map(NonZeroU16::get), Ok(1000));
        assert!(worker_count("auto").is_ok());
        for bad in ["0", "1001", "-1", "70000", "all", ""] {
            assert!(worker_count(bad).is_err(), "{bad}");
        }
        assert_eq!(start_timeout("100ms"), Ok(Duration::from_millis(100)));
        assert!(start_timeout("0").is_err() && start_timeout("31m").is_err());
        assert_eq!(response_timeout("0"), Ok(Duration::ZERO));
        assert!(response_timeout("25h").is_err());
        assert_eq!(queue_timeout("0"), Ok(Duration::ZERO));
        assert!(queue_timeout("61m").is_err());
        assert_eq!(request_path("/ready?deep=1"), Ok("/ready?deep=1".into()));
        for bad in ["ready", "/a b", "/#x", "/ä", "http://x/"] {
            assert!(request_path(bad).is_err(), "{bad}");
        }
    }
}

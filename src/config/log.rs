//! Settings of the log.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use bytesize::ByteSize;
use tracing_subscriber::EnvFilter;

use super::environment::state_directory;
use super::parse;
use super::sources::{Source, Sources};
use super::validator::Validator;

/// Format and destination of log lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// A tracing filter directive, such as `info`.
    pub filter: String,
    pub format: LogFormat,
    pub target: LogTarget,
    /// Size at which the file is rotated; 0 never rotates it.
    pub max_size: ByteSize,
    pub keep: u16,
    /// The mode of the file. Without one, a new file has 0600, and an existing one keeps its mode.
    pub mode: Option<u32>,
}

/// The format of the daemon's own log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// `TIMESTAMP LEVEL target: message key=value`
    Text,
    /// One JSON object per line.
    Json,
}

/// The destination of log lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    /// `LOG_FILE=-`, or a name of stdout such as `/dev/stdout`.
    Stdout,
    /// An absolute path.
    File(PathBuf),
}

/// The audit file of the settings: `AUDIT_FILE`, or the log file with `.audit` appended. `None` if
/// neither is set.
pub(super) fn audit_file(
    validator: &mut Validator<'_>,
    log: Option<&LogTarget>,
) -> Option<PathBuf> {
    let sources = validator.sources;
    if sources.get("AUDIT_FILE").is_some() {
        return validator.value("AUDIT_FILE", |text| {
            if is_device(text) {
                return Err(format!(
                    "`{text}` is not a file: choose a file, or remove AUDIT_FILE and set LOG_FILE=- to have no audit file"
                ));
            }
            parse::path(text, sources)
        });
    }
    let mut path = log?.file()?.as_os_str().to_owned();
    path.push(".audit");
    Some(path.into())
}

/// Whether the path names a device or an open file of the process. `/dev/shm` has regular files.
fn is_device(path: &str) -> bool {
    let has_parent = |parent| Path::new(path).starts_with(parent);
    let is_descriptor = Path::new(path)
        .parent()
        .is_some_and(|parent| parent.ends_with("fd"));
    has_parent("/proc") && is_descriptor || has_parent("/dev") && !has_parent("/dev/shm")
}

/// A better log file than the default, while the default is in use in a directory that all users may
/// write to, and does not exist: another user can take its name, and logrotate refuses the directory.
#[must_use]
pub fn better_log_file(sources: &Sources) -> Option<PathBuf> {
    const STICKY: u32 = 0o1000;
    let (text, source) = sources.get("LOG_FILE")?;
    let path = Path::new(text);
    let directory = path.parent()?.metadata().ok()?;
    if *source != Source::Default || directory.mode() & STICKY == 0 || path.exists() {
        return None;
    }
    let directory = if nix::unistd::geteuid().is_root() {
        PathBuf::from("/var/log")
    } else {
        state_directory(sources.home())?
    };
    Some(directory.join(path.file_name()?))
}

impl LogSettings {
    pub(super) fn load(validator: &mut Validator<'_>) -> Option<Self> {
        let sources = validator.sources;
        let filter = validator.value("LOG_LEVEL", parse_log_filter);
        let format = validator.value("LOG_FORMAT", str::parse);
        let target = validator.value("LOG_FILE", |text| LogTarget::parse(text, sources));
        let max_size = validator.value("LOG_MAX_SIZE", parse::log_max_size);
        let keep = validator.value("LOG_KEEP", parse::log_keep);
        let mode = validator.value("LOG_MODE", parse::log_mode);
        Some(Self {
            filter: filter?,
            format: format?,
            target: target?,
            max_size: max_size?,
            keep: keep?,
            mode,
        })
    }

    /// These settings with the reloadable ones of `new`.
    pub(super) fn with_reloadable_of(&self, new: Self) -> Self {
        Self {
            format: self.format,
            target: self.target.clone(),
            ..new
        }
    }
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("`{text}` is not text or json")),
        }
    }
}

impl LogTarget {
    pub(super) fn parse(text: &str, sources: &Sources) -> Result<Self, String> {
        // A device or a pipe cannot be read or rotated as a log file.
        match text {
            "-" | "/dev/stdout" | "/dev/fd/1" | "/proc/self/fd/1" => Ok(Self::Stdout),
            _ if is_device(text) => Err(format!(
                "`{text}` is not a file: use `-` to log to stdout, or LOG_LEVEL=off to log nothing"
            )),
            _ => parse::path(text, sources).map(Self::File),
        }
    }

    /// The path, unless the target is stdout.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Stdout => None,
            Self::File(path) => Some(path),
        }
    }
}

/// The valid forms of a log filter. The text completes "the value …".
pub(crate) const LOG_FILTER_FORM: &str = "is not a log level (ERROR, WARN, INFO, DEBUG, TRACE, OFF) or a filter such as info,hyper=debug";

/// Parses a level (Python's names included) or `target=level` directives into a tracing filter.
/// Directives without a global level get `info` as the global level.
///
/// # Errors
///
/// The text is neither. The message contains the accepted forms.
pub fn parse_log_filter(text: &str) -> Result<String, String> {
    let expected = || format!("`{text}` {LOG_FILTER_FORM}");
    let mut directives = Vec::new();
    let mut has_level = false;
    for part in text.split(',').map(str::trim) {
        let directive = match part.to_ascii_lowercase().as_str() {
            "warning" => "warn".to_owned(),
            "critical" | "fatal" => "error".to_owned(),
            level @ ("error" | "warn" | "info" | "debug" | "trace" | "off") => level.to_owned(),
            // EnvFilter takes a bare word for a target and would silence everything else.
            other if other.contains('=') => {
                directives.push(part.to_owned());
                continue;
            }
            _ => return Err(expected()),
        };
        has_level = true;
        directives.push(directive);
    }
    if !has_level {
        directives.insert(0, "info".into());
    }
    let filter = directives.join(",");
    // Without regular expressions, as the log uses it: one of a few bytes can take minutes to
    // compile.
    EnvFilter::builder()
        .with_regex(false)
        .parse(&filter)
        .map_err(|_| expected())?;
    Ok(filter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_filter_accepts_python_and_tracing_levels() {
        let parse = parse_log_filter;
        assert_eq!(parse("WARNING").unwrap(), "warn");
        assert_eq!(parse("critical").unwrap(), "error");
        assert_eq!(parse("info, hyper=debug").unwrap(), "info,hyper=debug");
        assert_eq!(parse("hyper=debug").unwrap(), "info,hyper=debug");
        assert!(parse("verbose").is_err());
        assert!(parse("info,hyper=loud").is_err());
        assert!(parse("").is_err());
    }
}

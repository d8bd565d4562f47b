//! What of the settings is valid, whatever is wrong with the others: for looking around, not for running.

use std::net::SocketAddr;

use bytesize::ByteSize;

use super::{ClientSettings, Sources, Validator, parse};

/// The settings that can be had one by one.
#[derive(Debug)]
pub struct BestEffortSettings {
    /// What finds the daemon. A wrong `PID_FILE` is in it as it is written.
    pub client: ClientSettings,
    /// Whether `PID_FILE` is valid.
    pub is_pid_file_valid: bool,
    /// Where the public API should listen.
    pub public: Option<SocketAddr>,
    /// The size at which the log file is rotated.
    pub log_max_size: Option<ByteSize>,
}

impl BestEffortSettings {
    /// Finds what can be found.
    #[must_use]
    pub fn load(sources: &Sources) -> Self {
        // Whoever wants to know what is wrong loads the settings.
        let mut check = Validator {
            sources,
            problems: Vec::new(),
        };
        let host = check.value("HOST", parse::host);
        let port = check.value("PORT", parse::port);
        let log_max_size = check.value("LOG_MAX_SIZE", parse::log_max_size);
        let pid_file = check.value("PID_FILE", |text| parse::path(text, sources));
        let is_pid_file_valid = pid_file.is_some();
        let pid_file = pid_file.unwrap_or_else(|| {
            let written = sources.get("PID_FILE").map_or("", |(text, _)| text);
            sources.directory().join(written)
        });
        Self {
            client: ClientSettings::with_pid_file(pid_file, check),
            is_pid_file_valid,
            public: host.zip(port).map(SocketAddr::from),
            log_max_size,
        }
    }
}

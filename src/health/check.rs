//! Results of health checks.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The lifecycle phase of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Not all listeners accept connections yet.
    Starting,
    /// Serving.
    Ready,
    /// Stopping, or replaced by a new process; finishing the requests in flight.
    Draining,
}

/// The last result of one check. Serialized for the next process of a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// `postgresql`, `redis`, or `log` for the log file.
    pub name: String,
    pub state: CheckState,
    /// When the state began; `None` if the check needs no probe.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub since: Option<Timestamp>,
    /// Duration of the last successful probe.
    #[serde(
        rename = "latency_ms",
        with = "milliseconds",
        skip_serializing_if = "Option::is_none",
        default
    )]
    pub latency: Option<Duration>,
    /// Why the check is down.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_error: Option<String>,
}

/// State of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckState {
    /// It works.
    Up,
    /// It does not work.
    Down,
    /// No probe has finished yet.
    Unknown,
}

impl Check {
    /// Latency in milliseconds, with microsecond precision.
    #[must_use]
    pub fn latency_ms(&self) -> Option<f64> {
        self.latency.map(milliseconds::from_duration)
    }
}

mod milliseconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn from_duration(duration: Duration) -> f64 {
        (duration.as_secs_f64() * 1e6).round() / 1e3
    }

    #[expect(clippy::ref_option, reason = "the signature that serde expects")]
    pub fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        duration.map(from_duration).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        let milliseconds = Option::<f64>::deserialize(deserializer)?;
        Ok(milliseconds.and_then(|value| Duration::try_from_secs_f64(value / 1e3).ok()))
    }
}

//! Durations as arguments.

use crate::config::duration;

/// A duration as in a setting, or a number of seconds that may have a fraction. Returns seconds.
pub fn parse_seconds(text: &str, min: f64, max: f64) -> Result<f64, String> {
    let seconds = text.parse().ok();
    seconds
        .or_else(|| duration(text).map(|time| time.as_secs_f64()))
        .filter(|seconds| (min..=max).contains(seconds))
        .ok_or_else(|| {
            format!("not a duration such as 10s or a number of seconds, from {min} to {max} s")
        })
}

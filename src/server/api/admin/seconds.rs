//! Durations in request bodies.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::server::http::problem::{ApiError, Result};

/// # Errors
///
/// 400 for seconds outside of the range.
pub fn parse_seconds(name: &str, seconds: f64, range: RangeInclusive<f64>) -> Result<Duration> {
    if range.contains(&seconds) {
        return Ok(Duration::from_secs_f64(seconds));
    }
    let reason = format!("must be {} to {} seconds", range.start(), range.end());
    Err(ApiError::invalid_field(name, reason))
}

//! The public API, as far as an operator asks it.

use reqwest::redirect::Policy;
use thiserror::Error;

use super::{RESPONSE_TIMEOUT, root_cause};
use crate::api::{Health, SERVICE_NAME};

/// `/health` told nothing.
#[derive(Debug, Error)]
pub enum HealthError {
    /// Nobody answers.
    #[error("{0}")]
    Unreachable(String),
    /// Whoever answers is not this service.
    #[error("what answers is not this service ({0})")]
    UnexpectedServer(String),
}

/// `GET /health` of the public API at `base`.
///
/// # Errors
///
/// Nobody answers there, or somebody else.
pub async fn health(base: &str) -> Result<Health, HealthError> {
    let failed = |error: reqwest::Error| {
        HealthError::Unreachable(if error.is_timeout() {
            format!("no answer within {RESPONSE_TIMEOUT:?}")
        } else {
            root_cause(&error)
        })
    };
    let http = reqwest::Client::builder()
        .no_proxy()
        .timeout(RESPONSE_TIMEOUT)
        .redirect(Policy::none())
        .build()
        .map_err(failed)?;
    let answer = http.get(format!("{base}/health")).send().await;
    let body = answer.map_err(failed)?.bytes().await.map_err(failed)?;
    serde_json::from_slice::<Health>(&body)
        .map_err(|error| HealthError::UnexpectedServer(error.to_string()))
        .and_then(|health| match health.service.as_str() {
            SERVICE_NAME => Ok(health),
            other => Err(HealthError::UnexpectedServer(format!("it is {other}"))),
        })
}

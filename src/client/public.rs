//! The client of the public API.

use thiserror::Error;

use super::transport::{RESPONSE_TIMEOUT, http_client, root_cause};
use crate::api::Health;
use crate::identity::identity;

/// Why `/health` gave no result.
#[derive(Debug, Error)]
pub enum HealthError {
    /// There is no response.
    #[error("{0}")]
    Unreachable(String),
    /// The response is not from this service.
    #[error("the server is not the public API ({0})")]
    UnexpectedServer(String),
}

/// `GET /health` of the public API at `base`.
///
/// # Errors
///
/// There is no response, or it is from another service.
pub async fn health(base: &str) -> Result<Health, HealthError> {
    let failed = |error: reqwest::Error| {
        HealthError::Unreachable(if error.is_timeout() {
            format!("no answer within {RESPONSE_TIMEOUT:?}")
        } else {
            root_cause(&error)
        })
    };
    let http = http_client()
        .timeout(RESPONSE_TIMEOUT)
        .build()
        .map_err(failed)?;
    let response = http.get(format!("{base}/health")).send().await;
    let body = response.map_err(failed)?.bytes().await.map_err(failed)?;
    serde_json::from_slice::<Health>(&body)
        .map_err(|error| HealthError::UnexpectedServer(error.to_string()))
        .and_then(|health| match health.service.as_str() {
            service if service == identity().service => Ok(health),
            other => Err(HealthError::UnexpectedServer(format!("service {other}"))),
        })
}

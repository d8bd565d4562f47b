//! The client of the public API.

use reqwest::StatusCode;
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::transport::{RESPONSE_TIMEOUT, http_client, root_cause};
use crate::api::{HealthReport, ReadinessReport};
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
pub async fn health(base: &str) -> Result<HealthReport, HealthError> {
    let (_, health) = get::<HealthReport>(base, "/health").await?;
    match health.service.as_str() {
        service if service == identity().service => Ok(health),
        other => Err(HealthError::UnexpectedServer(format!("service {other}"))),
    }
}

/// `GET /health/ready` of the public API at `base`. The result is ready only if the status is 200.
///
/// # Errors
///
/// There is no response, or it is from another service.
pub async fn readiness(base: &str) -> Result<ReadinessReport, HealthError> {
    let (status, mut readiness) = get::<ReadinessReport>(base, "/health/ready").await?;
    readiness.ready &= status == StatusCode::OK;
    Ok(readiness)
}

async fn get<T: DeserializeOwned>(base: &str, path: &str) -> Result<(StatusCode, T), HealthError> {
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
    let response = http.get(format!("{base}{path}")).send().await;
    let response = response.map_err(failed)?;
    let status = response.status();
    let body = response.bytes().await.map_err(failed)?;
    let value = serde_json::from_slice(&body)
        .map_err(|error| HealthError::UnexpectedServer(error.to_string()))?;
    Ok((status, value))
}

//! Reads of files, away from the threads that serve.

use poem::http::StatusCode;

use super::problem::ApiError;

/// The result of a read that may take long.
pub async fn run_blocking<T: Send + 'static>(
    read: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    let result = tokio::task::spawn_blocking(read).await;
    result.map_err(|error| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

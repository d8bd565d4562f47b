//! A client of the admin API, generated from its document.

include!(concat!(env!("OUT_DIR"), "/client.rs"));

/// A client that sends this token.
///
/// # Errors
///
/// The token cannot be sent in a header.
pub fn with_token(base: &str, token: &str) -> Result<Client, Box<dyn std::error::Error>> {
    let bearer = format!("Bearer {token}").parse()?;
    let headers = reqwest::header::HeaderMap::from_iter([(reqwest::header::AUTHORIZATION, bearer)]);
    let http = reqwest::Client::builder()
        .default_headers(headers)
        .no_proxy();
    Ok(Client::new_with_client(base, http.build()?))
}

/// The problem in an error response. Progenitor parses only `application/json`, and leaves a body of
/// `application/problem+json` to the caller.
///
/// # Errors
///
/// The body cannot be read, or is not a problem.
pub async fn read_problem(
    response: ResponseValue<ByteStream>,
) -> Result<types::Problem, Box<dyn std::error::Error>> {
    use futures_util::TryStreamExt as _;

    let chunks: Vec<_> = response.into_inner_stream().try_collect().await?;
    Ok(serde_json::from_slice(&chunks.concat())?)
}

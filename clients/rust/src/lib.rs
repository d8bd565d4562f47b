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

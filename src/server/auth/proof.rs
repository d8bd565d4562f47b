//! `POST /admin/proof`: client and daemon prove to each other that they have the same signing key,
//! before the client sends a token.
//!
//! It is not in the OpenAPI document: only the command line uses it, and it takes no token.

use poem::http::{HeaderValue, StatusCode};
use poem::{Request, RequestBody, Response, Route, post};

use super::state::AuthState;
use crate::api::{PROOF_PATH, ProofRequest};
use crate::server::http::json;

/// The path, and its `Allow` header.
pub fn allowed_methods() -> (String, HeaderValue) {
    (PROOF_PATH.to_owned(), HeaderValue::from_static("POST"))
}

pub fn add_route(route: Route) -> Route {
    route.at(PROOF_PATH, post(poem::endpoint::make(prove)))
}

async fn prove(mut request: Request) -> poem::Result<Response> {
    let mut body = RequestBody::new(request.take_body());
    let proof: ProofRequest = json::read_body(&request, &mut body).await?;
    let auth = AuthState::from_request(&request)?;
    auth.reject_unknown_parameters(&request)?;
    let answer = auth.answer_proof(&request, &proof)?;
    Ok(json::render(StatusCode::OK, &answer))
}

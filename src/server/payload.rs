//! JSON answers, written by serde field by field: poem-openapi's own payload goes through a tree of values and says
//! `charset=utf-8`, which RFC 8259 does not know and generated clients stumble over.

use bytes::Bytes;
use poem::http::{StatusCode, header};
use poem::{IntoResponse, Response};
use poem_openapi::ApiResponse;
use poem_openapi::registry::{MetaMediaType, MetaResponse, MetaResponses, Registry};
use poem_openapi::types::Type;
use serde::Serialize;

/// `200` with JSON.
pub struct Json<T>(pub T);

/// `202` with JSON.
pub struct Accepted<T>(pub T);

/// `200` or `503` with the same JSON type, rendered before.
pub struct Rendered<T> {
    pub status: StatusCode,
    pub body: Bytes,
    pub kind: std::marker::PhantomData<T>,
}

fn render(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(body) => json_response(status, body.into()),
        Err(error) => {
            tracing::error!(%error, "an answer could not be written as JSON");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn json_response(status: StatusCode, body: Bytes) -> Response {
    let mut response = Response::builder().status(status).body(body);
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    );
    response
}

/// The entry of an operation's responses that a type of this module stands for.
fn meta<T: Type>(status: StatusCode, description: &'static str) -> MetaResponse {
    MetaResponse {
        description,
        status: Some(status.as_u16()),
        status_range: None,
        content: vec![MetaMediaType {
            content_type: "application/json",
            schema: T::schema_ref(),
        }],
        headers: vec![],
    }
}

impl<T: Serialize + Send> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        render(StatusCode::OK, &self.0)
    }
}

impl<T: Type> ApiResponse for Json<T> {
    fn meta() -> MetaResponses {
        MetaResponses {
            responses: vec![meta::<T>(StatusCode::OK, "Done.")],
        }
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

impl<T: Serialize + Send> IntoResponse for Accepted<T> {
    fn into_response(self) -> Response {
        render(StatusCode::ACCEPTED, &self.0)
    }
}

impl<T: Type> ApiResponse for Accepted<T> {
    fn meta() -> MetaResponses {
        MetaResponses {
            responses: vec![meta::<T>(StatusCode::ACCEPTED, "Begun.")],
        }
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

impl<T: Send> IntoResponse for Rendered<T> {
    fn into_response(self) -> Response {
        json_response(self.status, self.body)
    }
}

impl<T: Type> ApiResponse for Rendered<T> {
    fn meta() -> MetaResponses {
        MetaResponses {
            responses: vec![
                meta::<T>(StatusCode::OK, "The service can be used."),
                meta::<T>(StatusCode::SERVICE_UNAVAILABLE, "It cannot."),
            ],
        }
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

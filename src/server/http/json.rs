//! JSON bodies of requests and responses.
//!
//! poem-openapi's own JSON payload is not used: it builds a tree of values, and adds
//! `charset=utf-8`, which RFC 8259 does not define and some generated clients reject.

use bytes::Bytes;
use poem::http::{StatusCode, header};
use poem::{IntoResponse, Request, RequestBody, Response};
use poem_openapi::ApiResponse;
use poem_openapi::registry::{MetaMediaType, MetaRequest, MetaResponse, MetaResponses, Registry};
use poem_openapi::types::Type;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::problem::ApiError;
use super::unique_fields::{self, is_like_a_field};

/// Stands for the description of the body at the end of a response description. The OpenAPI
/// documents have that description in its place.
pub const OF_BODY: &str = "{body}";
const APPLICATION_JSON: &str = "application/json";
/// The maximum size of a request body, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// A JSON body with the status `STATUS`.
pub struct JsonResponse<T, const STATUS: u16 = 200>(pub T);

/// Describes a request body of type `T` in the OpenAPI documents.
pub fn body_meta<T: Type>() -> MetaRequest {
    MetaRequest {
        description: None,
        content: vec![MetaMediaType {
            content_type: APPLICATION_JSON,
            schema: T::schema_ref(),
        }],
        required: T::IS_REQUIRED,
    }
}

/// Reads a JSON object from the request body. The body may be empty if `T` is an `Option`.
///
/// # Errors
///
/// 400 for another content, 413 and 415.
pub async fn read_body<T: Type + DeserializeOwned>(
    request: &Request,
    body: &mut RequestBody,
) -> poem::Result<T> {
    let bytes = body.take()?.into_bytes_limit(MAX_BODY).await?;
    // Generated clients in Go and Java send `null` for a body that is left out.
    let is_null = !T::IS_REQUIRED && bytes.trim_ascii() == b"null";
    if bytes.is_empty() || is_null {
        let empty = serde_json::from_value(serde_json::Value::Null).ok();
        let empty = empty.filter(|_| !T::IS_REQUIRED).ok_or_else(|| {
            let detail = "the request body is missing: send a JSON object";
            ApiError::new(StatusCode::BAD_REQUEST, detail)
        })?;
        return Ok(empty);
    }
    let content_type = request.content_type().unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case(APPLICATION_JSON) {
        let detail = "unsupported Content-Type: send the body as `Content-Type: application/json`";
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail).into());
    }
    // Parsed as an object first, because derived deserializers also accept an array of the
    // fields.
    let value = unique_fields::parse_object(&bytes).and_then(|object| {
        serde_path_to_error::deserialize(serde_json::Value::Object(object)).map_err(|error| {
            let message = describe_type_error(&error.inner().to_string());
            let path = error.path().to_string();
            if is_like_a_field(&path) {
                format!("field `{path}`: {message}")
            } else {
                format!("the request body is invalid: {message}")
            }
        })
    });
    Ok(value.map_err(|detail| ApiError::new(StatusCode::BAD_REQUEST, detail))?)
}

/// Rewords a message of serde that names a type of Rust, or repeats a value or a long name: it may
/// be a secret, and the message is logged. Other messages are kept.
fn describe_type_error(message: &str) -> String {
    let expected = message
        .strip_prefix("invalid type: ")
        .or_else(|| message.strip_prefix("invalid value: "))
        .and_then(|rest| rest.rsplit_once(", expected "));
    let kind = match expected {
        Some((_, "f32" | "f64")) => "a number",
        Some((_, "u8" | "u16" | "u32" | "u64" | "usize")) => "a whole number, 0 or more",
        Some((_, "i8" | "i16" | "i32" | "i64" | "isize")) => "a whole number",
        Some((_, "a string")) => "a string",
        Some((_, "a boolean")) => "true or false",
        Some((_, other)) => other,
        None => return without_unknown_name(message),
    };
    format!("must be {kind}")
}

/// Removes the name of an unknown field, unless it may be a misspelt one.
fn without_unknown_name(message: &str) -> String {
    let unknown = message
        .strip_prefix("unknown field `")
        .and_then(|rest| rest.rsplit_once("`, expected "));
    match unknown {
        Some((name, expected)) if !is_like_a_field(name) => {
            format!("unknown field, expected {expected}")
        }
        _ => message.to_owned(),
    }
}

/// `200` or `503` with JSON of type `T` that was rendered before.
pub struct PrerenderedJson<T> {
    pub status: StatusCode,
    pub body: Bytes,
    pub kind: std::marker::PhantomData<T>,
}

pub fn render(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(body) => json_response(status, body.into()),
        Err(error) => {
            tracing::error!(%error, "cannot write a response as JSON");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn json_response(status: StatusCode, body: Bytes) -> Response {
    let mut response = Response::builder().status(status).body(body);
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static(APPLICATION_JSON),
    );
    response
}

/// Describes a response with a JSON body in the OpenAPI documents.
pub fn meta<T: Type>(status: StatusCode, description: &'static str) -> MetaResponse {
    MetaResponse {
        description,
        status: Some(status.as_u16()),
        status_range: None,
        content: vec![MetaMediaType {
            content_type: APPLICATION_JSON,
            schema: T::schema_ref(),
        }],
        headers: vec![],
    }
}

impl<T: Serialize + Send, const STATUS: u16> IntoResponse for JsonResponse<T, STATUS> {
    fn into_response(self) -> Response {
        render(status_code(STATUS), &self.0)
    }
}

impl<T: Type, const STATUS: u16> ApiResponse for JsonResponse<T, STATUS> {
    fn meta() -> MetaResponses {
        let description = match STATUS {
            201 => "Created. {body}",
            202 => "Accepted. {body}",
            _ => OF_BODY,
        };
        MetaResponses {
            responses: vec![meta::<T>(status_code(STATUS), description)],
        }
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

fn status_code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

impl<T: Send> IntoResponse for PrerenderedJson<T> {
    fn into_response(self) -> Response {
        json_response(self.status, self.body)
    }
}

impl<T: Type> ApiResponse for PrerenderedJson<T> {
    fn meta() -> MetaResponses {
        MetaResponses {
            responses: vec![
                meta::<T>(StatusCode::OK, "The service is healthy. {body}"),
                meta::<T>(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "The service is unhealthy: starting, draining, or a dependency is down. {body}",
                ),
            ],
        }
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

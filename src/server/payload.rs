//! JSON bodies. Answers are written by serde field by field: poem-openapi's own payload goes through a tree of values and says
//! `charset=utf-8`, which RFC 8259 does not know and generated clients stumble over.

use bytes::Bytes;
use poem::http::{StatusCode, header};
use poem::{IntoResponse, Request, RequestBody, Response};
use poem_openapi::registry::{MetaMediaType, MetaRequest, MetaResponse, MetaResponses, Registry};
use poem_openapi::types::Type;
use poem_openapi::{ApiExtractor, ApiExtractorType, ApiResponse, ExtractParamOptions};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::problem::ApiError;

/// What the documents say of an answer that is what was asked for.
pub(super) const DONE: &str = "Done.";
const APPLICATION_JSON: &str = "application/json";
/// No body of this API is larger, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// A JSON body with the status `STATUS`.
pub struct JsonResponse<T, const STATUS: u16 = 200>(pub T);

/// A JSON body that may be left out.
pub struct OptionalJsonBody<T>(pub Option<T>);

/// A JSON body.
pub struct JsonBody<T>(pub T);

impl<'a, T: Type + DeserializeOwned> ApiExtractor<'a> for JsonBody<T> {
    const TYPES: &'static [ApiExtractorType] = OptionalJsonBody::<T>::TYPES;

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        OptionalJsonBody::<T>::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        OptionalJsonBody::<T>::request_meta().map(|meta| MetaRequest {
            required: true,
            ..meta
        })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        options: ExtractParamOptions<Self::ParamType>,
    ) -> poem::Result<Self> {
        let OptionalJsonBody(body) = OptionalJsonBody::from_request(request, body, options).await?;
        body.map(Self).ok_or_else(|| {
            ApiError::new(
                StatusCode::BAD_REQUEST,
                "this needs a JSON object as its body",
            )
            .into()
        })
    }
}

impl<'a, T: Type + DeserializeOwned> ApiExtractor<'a> for OptionalJsonBody<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        Some(MetaRequest {
            description: None,
            content: vec![MetaMediaType {
                content_type: APPLICATION_JSON,
                schema: T::schema_ref(),
            }],
            required: false,
        })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _options: ExtractParamOptions<Self::ParamType>,
    ) -> poem::Result<Self> {
        let bytes = body.take()?.into_bytes_limit(MAX_BODY).await?;
        if bytes.is_empty() {
            return Ok(Self(None));
        }
        let content_type = request.content_type().unwrap_or_default();
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case(APPLICATION_JSON) {
            let detail = "a body has to come as `Content-Type: application/json`";
            return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail).into());
        }
        // Read as an object first: the derived reader would take an array for one, field by field.
        let value = serde_json::from_slice::<serde_json::Map<_, _>>(&bytes)
            .map_err(|error| format!("the body is not a JSON object: {error}"))
            .and_then(|object| {
                serde_path_to_error::deserialize(serde_json::Value::Object(object)).map_err(
                    |error| match error.path().to_string().as_str() {
                        "." | "?" => format!("the body is not valid: {}", error.inner()),
                        path => format!("`{path}` in the body: {}", error.inner()),
                    },
                )
            });
        Ok(Self(Some(value.map_err(|detail| {
            ApiError::new(StatusCode::BAD_REQUEST, detail)
        })?)))
    }
}

/// `200` or `503` with the same JSON type, rendered before.
pub struct PrerenderedJson<T> {
    pub status: StatusCode,
    pub body: Bytes,
    pub kind: std::marker::PhantomData<T>,
}

pub(super) fn render(status: StatusCode, body: &impl Serialize) -> Response {
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
        header::HeaderValue::from_static(APPLICATION_JSON),
    );
    response
}

/// The entry of an operation's responses that a type with a JSON body stands for.
pub(super) fn meta<T: Type>(status: StatusCode, description: &'static str) -> MetaResponse {
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
            201 => "Made.",
            202 => "Begun.",
            _ => DONE,
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
                meta::<T>(StatusCode::OK, "The service can be used."),
                meta::<T>(StatusCode::SERVICE_UNAVAILABLE, "It cannot."),
            ],
        }
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

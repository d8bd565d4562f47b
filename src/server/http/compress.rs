//! Compresses responses with gzip (RFC 1952), for clients that prefer it.
//!
//! Only responses that are marked as [`Compressible`]: the length of a compressed response tells
//! something about its content, so none with a secret is.

use std::io::{self, Write as _};
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream;
use http_body_util::BodyExt as _;
use http_body_util::combinators::BoxBody;
use hyper::body::Body as _;
use poem::http::header::{CONTENT_ENCODING, HeaderValue, VARY};
use poem::{Body, Endpoint, IntoResponse, Request, Response};
use poem_openapi::ApiResponse;
use poem_openapi::registry::{MetaResponses, Registry};

use super::negotiate::prefers_gzip;
use super::problem::ApiError;
use crate::sys::blocking;

/// In bytes. A smaller response fits in one packet anyway.
const MIN_SIZE: u64 = 1024;
/// In bytes. Compressing so much takes well below a millisecond.
const MAX_INLINE_SIZE: usize = 64 * 1024;

/// A response that may be compressed.
pub struct Compressible<T>(pub T);

/// Marks such a response.
#[derive(Debug, Clone, Copy)]
struct IsCompressible;

impl<T: IntoResponse> IntoResponse for Compressible<T> {
    fn into_response(self) -> Response {
        let mut response = self.0.into_response();
        response.extensions_mut().insert(IsCompressible);
        response
    }
}

impl<T: ApiResponse> ApiResponse for Compressible<T> {
    fn meta() -> MetaResponses {
        T::meta()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

/// A middleware that compresses what is [`Compressible`].
pub async fn compress<E>(inner: Arc<E>, request: Request) -> poem::Result<Response>
where
    E: Endpoint<Output = Response>,
{
    let with_gzip = prefers_gzip(request.headers());
    let mut response = inner.call(request).await?;
    let is_compressible = response.extensions_mut().remove::<IsCompressible>();
    if is_compressible.is_none() {
        return Ok(response);
    }
    add_vary(&mut response);
    if with_gzip {
        let body = response.take_body().into();
        let compressed = compress_body(body).await;
        let (body, is_compressed) = compressed.map_err(|error| ApiError::internal(&error))?;
        response.set_body(body);
        if is_compressed {
            let coding = HeaderValue::from_static("gzip");
            response.headers_mut().insert(CONTENT_ENCODING, coding);
        }
    }
    Ok(response)
}

/// Says that the response depends on `Accept-Encoding`.
pub fn add_vary(response: &mut Response) {
    let vary = HeaderValue::from_static("Accept-Encoding");
    response.headers_mut().append(VARY, vary);
}

/// The content with gzip, if that is smaller.
pub fn gzip(content: &[u8], level: Compression) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), level);
    // Writing to a buffer does not fail.
    encoder.write_all(content).ok()?;
    let compressed = encoder.finish().ok()?;
    (compressed.len() < content.len()).then(|| compressed.into())
}

/// The body, and whether it is compressed.
async fn compress_body(body: BoxBody<Bytes, io::Error>) -> io::Result<(Body, bool)> {
    let Some(size) = body.size_hint().exact() else {
        return Ok((compress_stream(body), true));
    };
    if size <= MIN_SIZE {
        return Ok((body.into(), false));
    }
    let content = body.collect().await?.to_bytes();
    let compress = || gzip(&content, Compression::fast());
    let compressed = if content.len() > MAX_INLINE_SIZE {
        blocking(compress)
    } else {
        compress()
    };
    Ok(match compressed {
        Some(compressed) => (compressed.into(), true),
        None => (content.into(), false),
    })
}

/// Compresses each part as the client reads it.
fn compress_stream(body: BoxBody<Bytes, io::Error>) -> Body {
    let encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let parts = stream::try_unfold(Some((body, encoder)), |state| async {
        let Some((mut body, mut encoder)) = state else {
            return Ok(None);
        };
        while encoder.get_ref().is_empty() {
            let Some(frame) = body.frame().await else {
                return Ok(Some((encoder.finish()?.into(), None)));
            };
            if let Ok(data) = frame?.into_data() {
                blocking(|| encoder.write_all(&data))?;
            }
        }
        let part = std::mem::take(encoder.get_mut());
        Ok::<_, io::Error>(Some((Bytes::from(part), Some((body, encoder)))))
    });
    Body::from_bytes_stream(parts)
}

//! Files that are compiled into the program.

use std::sync::LazyLock;

use bytes::Bytes;
use poem::http::{StatusCode, header};
use poem::web::headers::{ETag, HeaderMapExt as _, IfNoneMatch};
use poem::{Endpoint, Request, Response};

use crate::sys::hex;

pub const HTML: &str = "text/html; charset=utf-8";
pub const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
pub const CSS: &str = "text/css; charset=utf-8";

/// A body that is built at the first request. A browser that has it gets 304.
pub struct StaticFile {
    content_type: &'static str,
    content: LazyLock<BodyWithEtag, Box<dyn FnOnce() -> BodyWithEtag + Send>>,
    content_policy: Option<&'static str>,
}

type BodyWithEtag = (Bytes, Option<ETag>);

impl StaticFile {
    pub fn new(content_type: &'static str, make: impl FnOnce() -> Bytes + Send + 'static) -> Self {
        let make = move || {
            let body = make();
            let digest = ring::digest::digest(&ring::digest::SHA256, &body);
            let tag = hex(&digest.as_ref()[..8]);
            // Hexadecimal digits are valid in a tag.
            let tag = format!("\"{tag}\"").parse().ok();
            (body, tag)
        };
        Self {
            content_type,
            content: LazyLock::new(Box::new(make)),
            content_policy: None,
        }
    }

    /// Has this `Content-Security-Policy`, and not that of the port.
    pub fn with_content_policy(self, policy: &'static str) -> Self {
        Self {
            content_policy: Some(policy),
            ..self
        }
    }
}

impl Endpoint for StaticFile {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        let (body, tag) = &*self.content;
        let mut response = Response::builder().header(header::CACHE_CONTROL, "no-cache");
        if let Some(tag) = tag {
            response = response.typed_header(tag.clone());
        }
        if let Some(policy) = self.content_policy {
            response = response.header(header::CONTENT_SECURITY_POLICY, policy);
        }
        // Weak tags, lists and `*` count, too (RFC 9110, section 13.1.2).
        let known = request.headers().typed_get::<IfNoneMatch>();
        let is_known = |tag: &ETag| known.is_some_and(|known| !known.precondition_passes(tag));
        if tag.as_ref().is_some_and(is_known) {
            return Ok(response.status(StatusCode::NOT_MODIFIED).finish());
        }
        Ok(response.content_type(self.content_type).body(body.clone()))
    }
}

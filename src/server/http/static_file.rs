//! Files that are compiled into the program.

use std::sync::OnceLock;

use bytes::Bytes;
use flate2::Compression;
use poem::http::{StatusCode, header};
use poem::web::headers::{ETag, HeaderMapExt as _, IfNoneMatch};
use poem::{Endpoint, Request, Response};

use super::compress::{add_vary, gzip};
use super::negotiate::prefers_gzip;
use crate::sys::{blocking, hex};

pub const HTML: &str = "text/html; charset=utf-8";
pub const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
pub const CSS: &str = "text/css; charset=utf-8";

/// A body that is built at the first request, and compressed at the first request of a client that
/// prefers gzip. A browser that has it gets 304.
pub struct StaticFile {
    content_type: &'static str,
    make: Box<dyn Fn() -> Bytes + Send + Sync>,
    plain: OnceLock<Representation>,
    /// `None` if it would not be smaller.
    gzip: OnceLock<Option<Representation>>,
    content_policy: Option<&'static str>,
}

struct Representation {
    body: Bytes,
    tag: Option<ETag>,
}

impl StaticFile {
    pub fn new(
        content_type: &'static str,
        make: impl Fn() -> Bytes + Send + Sync + 'static,
    ) -> Self {
        Self {
            content_type,
            make: Box::new(make),
            plain: OnceLock::new(),
            gzip: OnceLock::new(),
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

    fn plain(&self) -> &Representation {
        get_or_make(&self.plain, || {
            let body = (self.make)();
            let tag = tag(&body, "");
            Representation { body, tag }
        })
    }

    fn gzip(&self) -> Option<&Representation> {
        let plain = self.plain();
        let made = get_or_make(&self.gzip, || {
            let body = gzip(&plain.body, Compression::best())?;
            let tag = tag(&plain.body, "-gzip");
            Some(Representation { body, tag })
        });
        made.as_ref()
    }
}

/// The requests that wait for the first one do not hold up others.
fn get_or_make<T>(cell: &OnceLock<T>, make: impl FnOnce() -> T) -> &T {
    match cell.get() {
        Some(made) => made,
        None => blocking(|| cell.get_or_init(make)),
    }
}

/// Hexadecimal digits of a digest. They are valid in a tag.
fn tag(body: &[u8], suffix: &str) -> Option<ETag> {
    let digest = ring::digest::digest(&ring::digest::SHA256, body);
    let digits = hex(&digest.as_ref()[..8]);
    format!("\"{digits}{suffix}\"").parse().ok()
}

impl Endpoint for StaticFile {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        let plain = self.plain();
        let gzip = prefers_gzip(request.headers())
            .then(|| self.gzip())
            .flatten();
        let sent = gzip.unwrap_or(plain);
        let mut response = Response::builder().header(header::CACHE_CONTROL, "no-cache");
        if let Some(policy) = self.content_policy {
            response = response.header(header::CONTENT_SECURITY_POLICY, policy);
        }
        // Weak tags, lists and `*` count, too (RFC 9110, section 13.1.2). A client that prefers
        // gzip may have the plain content. Not the other way round: a cache may ask for one that
        // cannot read gzip.
        let known = request.headers().typed_get::<IfNoneMatch>();
        let mut tags = [sent, plain].into_iter().filter_map(|it| it.tag.as_ref());
        let known = tags.find(|tag| {
            known
                .as_ref()
                .is_some_and(|it| !it.precondition_passes(tag))
        });
        let mut response = if let Some(tag) = known {
            let response = response.typed_header(tag.clone());
            response.status(StatusCode::NOT_MODIFIED).finish()
        } else {
            if let Some(tag) = &sent.tag {
                response = response.typed_header(tag.clone());
            }
            if gzip.is_some() {
                response = response.header(header::CONTENT_ENCODING, "gzip");
            }
            // Also of a response to HEAD, which has no body.
            let response = response.header(header::CONTENT_LENGTH, sent.body.len());
            let response = response.content_type(self.content_type);
            response.body(sent.body.clone())
        };
        add_vary(&mut response);
        Ok(response)
    }
}

//! Security headers of responses.

use hyper::HeaderMap;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};

macro_rules! page_policy {
    () => {
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    };
}

/// For pages: only scripts from this origin, no inline scripts, and no embedding in a frame.
pub const PAGE_POLICY: &str = page_policy!();
/// For the admin port: also no text that becomes HTML or a script (Trusted Types).
const ADMIN_POLICY: &str = concat!(
    page_policy!(),
    "; require-trusted-types-for 'script'; trusted-types 'none'"
);

const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName =
    HeaderName::from_static("cross-origin-resource-policy");
/// No page uses these features.
const NO_FEATURES: &str =
    "camera=(), display-capture=(), geolocation=(), microphone=(), midi=(), payment=(), usb=()";

const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");
const CROSS_ORIGIN_OPENER_POLICY: HeaderName =
    HeaderName::from_static("cross-origin-opener-policy");

/// Marks a response of a route of the application.
#[derive(Debug, Clone, Copy)]
pub struct ApplicationResponse;

/// Forbids caches to store a response that says nothing about it. A stored health check would hide
/// that the daemon has stopped.
pub fn set_no_store(headers: &mut HeaderMap) {
    set_missing(headers, &[(CACHE_CONTROL, "no-store")]);
}

/// Adds the headers that the response does not have. Responses of the admin API are never cached,
/// and never available to pages of other origins.
pub fn add_security_headers(headers: &mut HeaderMap, is_admin: bool) {
    if is_admin {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        set_missing(headers, &[(CROSS_ORIGIN_RESOURCE_POLICY, "same-origin")]);
    }
    let policy = if is_admin { ADMIN_POLICY } else { PAGE_POLICY };
    let content_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    if is_admin || content_type.is_some_and(|kind| kind.starts_with(b"text/html")) {
        set_missing(
            headers,
            &[
                (X_CONTENT_TYPE_OPTIONS, "nosniff"),
                (CONTENT_SECURITY_POLICY, policy),
                (REFERRER_POLICY, "no-referrer"),
                (X_FRAME_OPTIONS, "DENY"),
                (CROSS_ORIGIN_OPENER_POLICY, "same-origin"),
                (PERMISSIONS_POLICY, NO_FEATURES),
            ],
        );
    }
}

fn set_missing(headers: &mut HeaderMap, defaults: &[(HeaderName, &'static str)]) {
    for (name, value) in defaults {
        if !headers.contains_key(name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
}

//! Responses to requests that their headers are enough to reject or to redirect.

use hyper::Method;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_LENGTH, HeaderValue, LOCATION};
use poem::Response;
use poem::http::StatusCode;

use super::Service;
use crate::server::http::origin;
use crate::server::http::problem::problem_response;
use crate::server::http::refusal_page::refusal_page;
use crate::server::limits::LimitKind;
use crate::server::pool::ConnectionState;

impl Service {
    /// The response to a request that its headers are enough to reject or to redirect.
    pub(super) fn respond_early(
        &self,
        request: &hyper::Request<Incoming>,
        state: &ConnectionState,
    ) -> Option<Response> {
        if let Some(own_origins) = &self.own_origins {
            let (method, headers) = (request.method(), request.headers());
            if let Some(reason) =
                own_origins.rejection_reason(method, request.uri().path(), headers)
            {
                let is_page = origin::is_page_request(method, headers);
                return Some(if is_page {
                    refusal_page(&reason)
                } else {
                    problem_response(StatusCode::FORBIDDEN, &reason)
                });
            }
            let address = own_origins.numeric_address(method, request.uri(), headers);
            if let Some(address) = address {
                let redirect = Response::builder()
                    .status(StatusCode::TEMPORARY_REDIRECT)
                    .header(LOCATION, address);
                return Some(redirect.finish());
            }
        }
        if let Some(response) = respond_without_path(request) {
            return Some(response);
        }
        let length = request.headers().get(CONTENT_LENGTH)?.to_str().ok()?;
        let is_too_large = length
            .parse::<usize>()
            .is_ok_and(|length| length > self.pool.limits.max_body_size);
        is_too_large.then(|| self.body_limit_response(LimitKind::BodySize, state))
    }
}

/// The response to a request whose target is no path: `OPTIONS *`, which checks that the server
/// responds (RFC 9110, section 9.3.7), and `CONNECT`.
pub(super) fn respond_without_path(request: &hyper::Request<Incoming>) -> Option<Response> {
    if request.method() == Method::CONNECT {
        let mut response = problem_response(
            StatusCode::METHOD_NOT_ALLOWED,
            "CONNECT is not supported: this server is no proxy",
        );
        let headers = response.headers_mut();
        headers.insert(ALLOW, HeaderValue::from_static(""));
        return Some(response);
    }
    let is_for_server = request.method() == Method::OPTIONS && request.uri().path() == "*";
    is_for_server.then(|| Response::builder().status(StatusCode::NO_CONTENT).finish())
}

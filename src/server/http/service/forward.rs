//! Requests to the application.

use std::sync::Arc;

use http_body_util::Either;
use hyper::Method;
use hyper::body::Incoming;
use hyper::header::{ALLOW, HeaderValue, RETRY_AFTER};
use poem::Response;
use poem::http::StatusCode;

use super::early::respond_without_path;
use super::{Body, Service};
use crate::proxy::{Forwarded, Proxy, ProxyError};
use crate::server::http::access_log::{AccessRecord, PendingRequest};
use crate::server::http::application::StreamedBody;
use crate::server::http::body::drain_request;
use crate::server::http::headers;
use crate::server::http::problem::problem_response;
use crate::server::http::validity::InvalidRequest;
use crate::server::pool::ConnectionState;

impl Service {
    /// Responds through the application. The request is logged, also if it is aborted.
    pub(super) async fn forward_logged(
        &self,
        request: hyper::Request<Incoming>,
        validity: Result<(), InvalidRequest>,
        proxy: &Proxy,
        client: Forwarded<'_>,
        access: &AccessRecord<'_>,
        state: &Arc<ConnectionState>,
    ) -> hyper::Response<Body> {
        let uri = request.uri().clone();
        let mut pending = PendingRequest {
            access,
            shutdown: &self.shutdown,
            audit: None,
            method: request.method().clone(),
            path: uri.path(),
            status: None,
        };
        let early = match validity {
            Ok(()) => respond_without_path(&request).or_else(|| refuse_trace(&request)),
            Err(invalid) => {
                state.set_lingers();
                Some(problem_response(invalid.status, invalid.detail))
            }
        };
        let response = if let Some(response) = early {
            drain_request(request, state).await;
            Err(response)
        } else {
            state.set_ends_with_client();
            let timeout = self.pool.limits.body_timeout;
            let request = request.map(|body| StreamedBody::new(body, timeout, state));
            let response = proxy.forward(request, client).await;
            response.map_err(|error| self.proxy_error_response(&error, state))
        };
        let response = match response {
            Ok(response) => response.map(|body| Either::Left(Either::Right(body))),
            Err(problem) => {
                let mut problem = hyper::Response::from(problem).map(Either::Right);
                headers::set_no_store(problem.headers_mut());
                problem
            }
        };
        pending.status = Some(response.status());
        response
    }

    /// The response to a request that the application did not respond to.
    fn proxy_error_response(&self, error: &ProxyError, state: &ConnectionState) -> Response {
        if let (ProxyError::ClientBody(_), Some(limit)) = (error, state.body_limit_hit()) {
            return self.body_limit_response(limit, state);
        }
        let mut response = problem_response(error.status(), &error.to_string());
        if matches!(error, ProxyError::NoWorker(_)) {
            let headers = response.headers_mut();
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// The response to `TRACE`, which would show headers that other programs have added.
fn refuse_trace(request: &hyper::Request<Incoming>) -> Option<Response> {
    if request.method() != Method::TRACE {
        return None;
    }
    let mut response = problem_response(
        StatusCode::METHOD_NOT_ALLOWED,
        "TRACE is not supported: it would reveal headers",
    );
    let headers = response.headers_mut();
    headers.insert(
        ALLOW,
        HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
    );
    Some(response)
}

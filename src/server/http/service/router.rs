//! Requests that poem routes to an operation.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use hyper::Uri;
use hyper::header::{HeaderValue, LOCATION};
use poem::http::StatusCode;
use poem::{Endpoint as _, Response};

use super::Service;
use crate::server::http::body::{LimitedBody, awaits_continue, drain_body};
use crate::server::http::problem::{problem_from_error, problem_response};
use crate::server::path_template;
use crate::server::pool::ConnectionState;

impl Service {
    pub(super) async fn route(
        &self,
        mut request: poem::Request,
        uri: &Uri,
        state: &Arc<ConnectionState>,
    ) -> Response {
        let awaits_continue = awaits_continue(request.headers());
        let body = request.take_body().into();
        let (body, unread_body) = LimitedBody::wrap(body, &self.pool.limits, state);
        request.set_body(body);
        let response = self.call_router(request, uri).await;
        if let Some(body) = unread_body.take() {
            drain_body(body, awaits_continue, state).await;
        }
        match state.body_limit_hit() {
            // A handler that does not need the rest of the body may succeed.
            Some(limit) if !response.status().is_success() => {
                self.body_limit_response(limit, state)
            }
            _ => response,
        }
    }

    fn allowed_methods(&self, path: &str) -> Option<HeaderValue> {
        let template = path_template::find(self.allow.keys(), path)?;
        self.allow.get(template).cloned()
    }

    /// The redirect from a path with `/` at its end to the known path without. It is relative,
    /// because a proxy may have removed a prefix.
    fn redirect_without_slash(&self, uri: &Uri) -> Option<Response> {
        let path = uri.path().strip_suffix('/')?;
        path_template::find(self.allow.keys(), path)?;
        let (_, name) = path.rsplit_once('/').filter(|(_, name)| !name.is_empty())?;
        let query = uri.query().map_or_else(String::new, |it| format!("?{it}"));
        let redirect = Response::builder()
            .status(StatusCode::PERMANENT_REDIRECT)
            .header(LOCATION, format!("../{name}{query}"));
        Some(redirect.finish())
    }

    async fn call_router(&self, request: poem::Request, uri: &Uri) -> Response {
        // The panic hook has logged a panic. It ends the request, but not the connection.
        match AssertUnwindSafe(self.endpoint.call(request))
            .catch_unwind()
            .await
        {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                let is_unknown = error.status() == StatusCode::NOT_FOUND;
                let redirect = is_unknown.then(|| self.redirect_without_slash(uri));
                redirect.flatten().unwrap_or_else(|| {
                    problem_from_error(error, uri.path(), || self.allowed_methods(uri.path()))
                })
            }
            Err(_) => problem_response(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal error: see the log of the daemon",
            ),
        }
    }
}

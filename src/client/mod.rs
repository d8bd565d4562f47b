//! The admin API as typed calls: what the command line, the examples and the tests use.

pub(crate) mod events;
mod public;

use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

pub use events::{LogEvent, LogEvents};
pub use public::{HealthError, health};

use crate::api::{
    DEFAULT_RESTART_TIMEOUT, LogLevel, LogPage, Problem, ReloadDone, RestartDone, RestartRequest,
    SignInToken, Status, StopAccepted, StopRequest, UNKNOWN_PATH_PREFIX,
};
use crate::auth::{Scope, Scopes, SignError, TokenSigner};

/// How long the daemon may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long it may take to answer.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);
/// How much longer than its successor may take a daemon may take to say what became of it.
const RESTART_MARGIN: Duration = Duration::from_secs(10);
/// How long a token of ours lives: as long as one call, and clocks that differ a little.
const TOKEN_LIFETIME: Duration = Duration::from_mins(1);

/// A call failed.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Not an address that the client can talk to.
    #[error(
        "`{0}` is not an address such as http://127.0.0.1:8001 (https is not spoken: use a tunnel)"
    )]
    InvalidAddress(String),
    /// Nothing tells where it is.
    #[error("the admin API cannot be found: {0}")]
    UnknownAddress(&'static str),
    /// Nobody answers there.
    #[error("the admin API at {base} cannot be reached: {reason}")]
    Unreachable {
        /// Base URL.
        base: String,
        /// Why.
        reason: String,
    },
    /// 401 or 403: somebody answers, but not us.
    #[error("the admin API at {base} refused the token: {}", .problem.detail)]
    TokenRefused {
        /// Base URL.
        base: String,
        /// What it said.
        problem: Box<Problem>,
    },
    /// Another error of the API.
    #[error("{}", .0.detail)]
    Problem(Box<Problem>),
    /// Whoever answers is not this service.
    #[error("what answers at {base} is not the admin API of this service ({detail})")]
    UnexpectedServer {
        /// Base URL.
        base: String,
        /// How that was seen.
        detail: String,
    },
    /// The PID file is there, and nobody holds it.
    #[error("the daemon is not running")]
    NotRunning,
    /// There is nothing to sign a token with.
    #[error("there is no key for a token: {0}")]
    NoKey(String),
    /// The token could not be signed.
    #[error(transparent)]
    Sign(#[from] SignError),
}

impl ClientError {
    /// Whether the daemon does something else: it is being replaced, was, or stops (409).
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Problem(problem) if problem.status == StatusCode::CONFLICT.as_u16())
    }
}

/// Query of `GET /admin/logs` and its stream.
#[derive(Debug, Clone, Default, Serialize)]
pub struct LogQuery {
    /// How many of the last lines.
    pub lines: usize,
    /// Least severe level.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// Text that lines contain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// RFC 3339 timestamp or duration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Only lines before the one with this cursor; not for the stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// Only lines after the one with this cursor, and all of them; only for the stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// A client of one admin API.
pub struct AdminClient {
    http: reqwest::Client,
    base: Url,
    signer: TokenSigner,
    subject: String,
}

impl AdminClient {
    /// A client for the API at `base`, which signs its own tokens for `subject`.
    ///
    /// # Errors
    ///
    /// `base` is not an `http://` address.
    pub fn new(base: &str, signer: TokenSigner, subject: &str) -> Result<Self, ClientError> {
        let url = parse_base_url(base)?;
        let http = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|_| ClientError::InvalidAddress(base.to_owned()))?;
        Ok(Self {
            http,
            base: url,
            signer,
            subject: subject.to_owned(),
        })
    }

    /// Base URL of the API.
    #[must_use]
    pub fn base_url(&self) -> &Url {
        &self.base
    }

    /// `GET /admin/status`
    ///
    /// # Errors
    ///
    /// [`ClientError`]
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.send_json(self.request(Scope::Read, Method::GET, "/admin/status")?)
            .await
    }

    /// `POST /admin/stop`
    ///
    /// # Errors
    ///
    /// [`ClientError`]
    pub async fn stop(&self, order: &StopRequest) -> Result<StopAccepted, ClientError> {
        self.send_json(
            self.request(Scope::Control, Method::POST, "/admin/stop")?
                .json(order),
        )
        .await
    }

    /// `POST /admin/restart`. Answers once the successor serves, or has failed.
    ///
    /// # Errors
    ///
    /// [`ClientError`]
    pub async fn restart(&self, order: &RestartRequest) -> Result<RestartDone, ClientError> {
        let timeout = order.timeout_seconds.map(Duration::try_from_secs_f64);
        let timeout = timeout
            .and_then(Result::ok)
            .unwrap_or(DEFAULT_RESTART_TIMEOUT);
        let request = self
            .request(Scope::Control, Method::POST, "/admin/restart")?
            .json(order);
        self.send_json_within(request, timeout + RESTART_MARGIN)
            .await
    }

    /// `POST /admin/reload`
    ///
    /// # Errors
    ///
    /// [`ClientError`]
    pub async fn reload(&self) -> Result<ReloadDone, ClientError> {
        self.send_json(self.request(Scope::Control, Method::POST, "/admin/reload")?)
            .await
    }

    /// `GET /admin/log-level`
    ///
    /// # Errors
    ///
    /// [`ClientError`]
    pub async fn log_level(&self) -> Result<LogLevel, ClientError> {
        self.send_json(self.request(Scope::Read, Method::GET, "/admin/log-level")?)
            .await
    }

    /// `GET /admin/logs`
    ///
    /// # Errors
    ///
    /// [`ClientError`]
    pub async fn logs(&self, query: &LogQuery) -> Result<LogPage, ClientError> {
        self.send_json(
            self.request(Scope::Logs, Method::GET, "/admin/logs")?
                .query(query),
        )
        .await
    }

    /// `GET /admin/logs/stream`
    ///
    /// # Errors
    ///
    /// [`ClientError`]
    pub async fn follow_logs(&self, query: &LogQuery) -> Result<LogEvents, ClientError> {
        let request = self
            .request(Scope::Logs, Method::GET, "/admin/logs/stream")?
            .query(query);
        // The stream has no end; only its beginning is waited for.
        let answer = tokio::time::timeout(RESPONSE_TIMEOUT, self.send(request)).await;
        let response = answer.map_err(|_| self.timed_out(RESPONSE_TIMEOUT))??;
        Ok(LogEvents::new(response, self.base.to_string()))
    }

    /// `POST /admin/session/token`, for a session that allows this.
    ///
    /// # Errors
    ///
    /// [`ClientError`]
    pub async fn create_sign_in_token(&self, scopes: Scopes) -> Result<SignInToken, ClientError> {
        self.send_json(self.request_with_scopes(scopes, Method::POST, "/admin/session/token")?)
            .await
    }

    /// A call with a token that allows nothing else: whoever answers there may not be who was meant.
    fn request(
        &self,
        needed: Scope,
        method: Method,
        path: &str,
    ) -> Result<RequestBuilder, ClientError> {
        self.request_with_scopes(Scopes::default().with(needed), method, path)
    }

    fn request_with_scopes(
        &self,
        scopes: Scopes,
        method: Method,
        path: &str,
    ) -> Result<RequestBuilder, ClientError> {
        let url = self
            .base
            .join(path)
            .map_err(|_| ClientError::InvalidAddress(self.base.to_string()))?;
        let token = self.signer.sign(&self.subject, scopes, TOKEN_LIFETIME)?;
        Ok(self.http.request(method, url).bearer_auth(token))
    }

    async fn send_json<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> Result<T, ClientError> {
        self.send_json_within(request, RESPONSE_TIMEOUT).await
    }

    async fn send_json_within<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
        timeout: Duration,
    ) -> Result<T, ClientError> {
        let answer = async {
            let body = self.send(request).await?.bytes().await;
            let body = body.map_err(|error| self.transport_error(&error))?;
            serde_json::from_slice(&body).map_err(|error| self.unexpected_server(error.to_string()))
        };
        let answer = tokio::time::timeout(timeout, answer).await;
        answer.map_err(|_| self.timed_out(timeout))?
    }

    /// An answer with a status of success.
    async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let response = request
            .send()
            .await
            .map_err(|error| self.transport_error(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response
            .bytes()
            .await
            .map_err(|error| self.transport_error(&error))?;
        let Ok(problem) = serde_json::from_slice::<Box<Problem>>(&body) else {
            return Err(self.unexpected_server(format!("it answered {status}")));
        };
        Err(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS => {
                ClientError::TokenRefused {
                    base: self.base.to_string(),
                    problem,
                }
            }
            StatusCode::NOT_FOUND if problem.detail.starts_with(UNKNOWN_PATH_PREFIX) => self
                .unexpected_server(format!(
                    "{}; is that PORT rather than ADMIN_PORT?",
                    problem.detail
                )),
            _ => ClientError::Problem(problem),
        })
    }

    fn transport_error(&self, error: &reqwest::Error) -> ClientError {
        if error.is_timeout() {
            self.timed_out(CONNECT_TIMEOUT)
        } else {
            self.unreachable(root_cause(error))
        }
    }

    fn timed_out(&self, timeout: Duration) -> ClientError {
        self.unreachable(format!("no answer within {timeout:?}"))
    }

    fn unreachable(&self, reason: String) -> ClientError {
        ClientError::Unreachable {
            base: self.base.to_string(),
            reason,
        }
    }

    fn unexpected_server(&self, detail: String) -> ClientError {
        ClientError::UnexpectedServer {
            base: self.base.to_string(),
            detail,
        }
    }
}

/// The address of an admin API: `http://HOST:PORT` and nothing behind it.
///
/// # Errors
///
/// [`ClientError::InvalidAddress`]
pub fn parse_base_url(text: &str) -> Result<Url, ClientError> {
    Url::parse(text)
        .ok()
        .filter(|url| url.scheme() == "http" && url.has_host() && url.path() == "/")
        .ok_or_else(|| ClientError::InvalidAddress(text.to_owned()))
}

/// The innermost error, which is the system's.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

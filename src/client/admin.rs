//! The client of the admin API.

use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::ClientError;
use super::events::LogEvents;
use super::transport::{RESPONSE_TIMEOUT, http_client, root_cause};
use crate::api::{
    DEFAULT_RESTART_TIMEOUT, DaemonStatus, LogLevelStatus, LogPage, Problem, ReloadResult,
    RestartRequest, RestartResult, SignInToken, StopRequest, StopResult,
};
use crate::auth::{MAX_SESSION_LIFETIME, Scope, Scopes, TokenSigner};

/// How long the daemon may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the daemon may take to report the outcome of a restart after the new process timed out.
const RESTART_MARGIN: Duration = Duration::from_secs(10);
/// Lifetime of a token: one call, and the difference between the clocks.
const TOKEN_LIFETIME: Duration = Duration::from_mins(1);

/// Query of `GET /admin/logs` and its stream.
#[derive(Debug, Clone, Default, Serialize)]
pub struct LogQuery {
    /// Number of the last lines.
    pub lines: usize,
    /// The least severe level.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// Text that the lines contain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// An RFC 3339 timestamp, or a duration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Cursor: only lines before it. Not for the stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// Cursor: all lines after it. Only for the stream.
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
    /// A client for the API at `base`, which signs its tokens for `subject`.
    ///
    /// # Errors
    ///
    /// `base` is not an `http://` address.
    pub fn new(base: &str, signer: TokenSigner, subject: &str) -> Result<Self, ClientError> {
        let url = parse_base_url(base)?;
        let http = http_client()
            .connect_timeout(CONNECT_TIMEOUT)
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
    pub async fn status(&self) -> Result<DaemonStatus, ClientError> {
        self.send_json(self.request(Scope::Read, Method::GET, "/admin/status")?)
            .await
    }

    /// `POST /admin/stop`
    ///
    /// # Errors
    ///
    /// [`ClientError`]
    pub async fn stop_daemon(&self, request: &StopRequest) -> Result<StopResult, ClientError> {
        self.send_json(
            self.request(Scope::Control, Method::POST, "/admin/stop")?
                .json(request),
        )
        .await
    }

    /// `POST /admin/restart`. Returns once the new process serves, or has failed.
    ///
    /// # Errors
    ///
    /// [`ClientError`]
    pub async fn restart_daemon(
        &self,
        request: &RestartRequest,
    ) -> Result<RestartResult, ClientError> {
        let timeout = request.timeout_seconds.map(Duration::try_from_secs_f64);
        let timeout = timeout
            .and_then(Result::ok)
            .unwrap_or(DEFAULT_RESTART_TIMEOUT);
        let call = self
            .request(Scope::Control, Method::POST, "/admin/restart")?
            .json(request);
        self.send_json_within(call, timeout + RESTART_MARGIN).await
    }

    /// `POST /admin/reload`
    ///
    /// # Errors
    ///
    /// [`ClientError`]
    pub async fn reload_settings(&self) -> Result<ReloadResult, ClientError> {
        self.send_json(self.request(Scope::Control, Method::POST, "/admin/reload")?)
            .await
    }

    /// `GET /admin/log-level`
    ///
    /// # Errors
    ///
    /// [`ClientError`]
    pub async fn log_level(&self) -> Result<LogLevelStatus, ClientError> {
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
    pub async fn stream_logs(&self, query: &LogQuery) -> Result<LogEvents, ClientError> {
        let request = self
            .request(Scope::Logs, Method::GET, "/admin/logs/stream")?
            .query(query);
        // The timeout is for the response headers: the stream has no end.
        let response = tokio::time::timeout(RESPONSE_TIMEOUT, self.send(request)).await;
        let response = response.map_err(|_| self.timed_out(RESPONSE_TIMEOUT))??;
        Ok(LogEvents::new(response, self.base.clone()))
    }

    /// `POST /admin/session/token`, for a session with these scopes that lasts a working day.
    ///
    /// # Errors
    ///
    /// [`ClientError`]
    pub async fn create_sign_in_token(&self, scopes: Scopes) -> Result<SignInToken, ClientError> {
        let lifetime = Some(MAX_SESSION_LIFETIME);
        self.send_json(self.request_for_session(
            scopes,
            lifetime,
            Method::POST,
            "/admin/session/token",
        )?)
        .await
    }

    /// A request whose token allows nothing else, because another program may listen on this
    /// address.
    fn request(
        &self,
        needed: Scope,
        method: Method,
        path: &str,
    ) -> Result<RequestBuilder, ClientError> {
        self.request_for_session(Scopes::default().with(needed), None, method, path)
    }

    /// A request whose token may create a session of this lifetime.
    fn request_for_session(
        &self,
        scopes: Scopes,
        session_lifetime: Option<Duration>,
        method: Method,
        path: &str,
    ) -> Result<RequestBuilder, ClientError> {
        let url = self
            .base
            .join(path)
            .map_err(|_| ClientError::InvalidAddress(self.base.to_string()))?;
        let token = self.signer.sign_for_session(
            &self.subject,
            scopes,
            TOKEN_LIFETIME,
            session_lifetime,
        )?;
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
        let response = async {
            let body = self.send(request).await?.bytes().await;
            let body = body.map_err(|error| self.transport_error(&error))?;
            serde_json::from_slice(&body)
                .map_err(|error| ClientError::unexpected_server(&self.base, error.to_string()))
        };
        let response = tokio::time::timeout(timeout, response).await;
        response.map_err(|_| self.timed_out(timeout))?
    }

    /// Returns a successful response.
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
            return Err(ClientError::unexpected_server(
                &self.base,
                format!("HTTP status {status}"),
            ));
        };
        Err(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS => {
                ClientError::TokenRefused {
                    base: self.base.to_string(),
                    problem,
                }
            }
            StatusCode::NOT_FOUND if problem.is_unknown_path() => ClientError::unexpected_server(
                &self.base,
                format!("{}; use ADMIN_PORT, not PORT", problem.detail),
            ),
            _ => ClientError::Problem(problem),
        })
    }

    fn transport_error(&self, error: &reqwest::Error) -> ClientError {
        if error.is_timeout() {
            self.timed_out(CONNECT_TIMEOUT)
        } else {
            ClientError::unreachable(&self.base, root_cause(error))
        }
    }

    fn timed_out(&self, timeout: Duration) -> ClientError {
        ClientError::unreachable(&self.base, format!("no answer within {timeout:?}"))
    }
}

/// Parses the address of an admin API: `http://HOST:PORT` without a path.
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

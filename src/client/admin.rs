//! The client of the admin API.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::ClientError;
use super::events::LogEvents;
use super::listener::{ListenerCheck, find_untrusted};
use super::transport::{RESPONSE_TIMEOUT, http_client, root_cause};
use crate::api::{
    AuditPage, DaemonStatus, LogLevelStatus, LogPage, MAX_TIMEOUT_SECONDS, PROOF_PATH, Problem,
    ProofRequest, ProofResult, ReloadResult, RestartRequest, RestartResult, RevokeRequest,
    RevokeResult, SessionSummary, SignInToken, StopRequest, StopResult, reachable_address,
};
use crate::auth::{MAX_SESSION_LIFETIME, ProofSide, Scope, Scopes, TokenSigner, generate_nonce};
use crate::config::Secret;
use crate::sys::sockets_accepting;

/// How long the daemon may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the daemon may take to report the outcome of a restart after the new process timed out.
const RESTART_MARGIN: Duration = Duration::from_secs(10);
/// The longest lifetime of a token: one call, and the difference between the clocks.
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
    page_base: Url,
    signer: TokenSigner,
    subject: String,
}

impl AdminClient {
    /// A client for the API at `base`, which signs its tokens for `subject`.
    ///
    /// Before it sends a token that is signed with a configured key, the daemon has to prove that
    /// it has the key. A loopback address has to belong to this user or to root.
    ///
    /// # Errors
    ///
    /// `base` is not an `http://` address, or its name has no address.
    pub fn new(base: &str, signer: TokenSigner, subject: &str) -> Result<Self, ClientError> {
        let owner = nix::unistd::geteuid().as_raw();
        Self::with_listener_of(owner, base, signer, subject)
    }

    /// A client like that of [`Self::new`]. A loopback address has to belong to the user `owner` or
    /// to root.
    ///
    /// # Errors
    ///
    /// As for [`Self::new`].
    pub fn with_listener_of(
        owner: u32,
        base: &str,
        signer: TokenSigner,
        subject: &str,
    ) -> Result<Self, ClientError> {
        let url = parse_base_url(base)?;
        let mut http = http_client().connect_timeout(CONNECT_TIMEOUT);
        let addresses = resolve(&url)?;
        if let Some(name) = url.domain() {
            // The address that is checked is the one that is used.
            http = http.resolve_to_addrs(name, &addresses);
        }
        let mut page_base = url.clone();
        if let Some(address) = addresses.first().copied().map(reachable_address)
            && is_loopback(address)
        {
            // A browser may find another program at `localhost`, on the other loopback address.
            let _ = page_base.set_ip_host(address.ip());
            http = http.connector_layer(ListenerCheck { address, owner });
        }
        let http = http
            .build()
            .map_err(|_| ClientError::InvalidAddress(base.to_owned()))?;
        Ok(Self {
            http,
            base: url,
            page_base,
            signer,
            subject: subject.to_owned(),
        })
    }

    /// Base URL of the API.
    #[must_use]
    pub fn base_url(&self) -> &Url {
        &self.base
    }

    /// The same for a browser. On this machine, its host is the address that this client checks.
    #[must_use]
    pub fn page_base_url(&self) -> &Url {
        &self.page_base
    }

    /// `GET /admin/status`
    ///
    /// # Errors
    ///
    /// [`ClientError`]
    pub async fn status(&self) -> Result<DaemonStatus, ClientError> {
        self.send_json(
            self.request(Scope::Read, Method::GET, "/admin/status")
                .await?,
        )
        .await
    }

    /// `POST /admin/stop`
    ///
    /// # Errors
    ///
    /// [`ClientError`]
    pub async fn stop_daemon(&self, request: &StopRequest) -> Result<StopResult, ClientError> {
        self.send_json(
            self.request(Scope::Control, Method::POST, "/admin/stop")
                .await?
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
        // Without a timeout, the daemon has its own, which depends on its application.
        let timeout = timeout
            .and_then(Result::ok)
            .unwrap_or(Duration::from_secs_f64(MAX_TIMEOUT_SECONDS))
            + RESTART_MARGIN;
        let call = self
            .request_within(timeout, Scope::Control, Method::POST, "/admin/restart")
            .await?
            .json(request);
        self.send_json_within(call, timeout).await
    }

    /// `POST /admin/reload`
    ///
    /// # Errors
    ///
    /// [`ClientError`]
    pub async fn reload_settings(&self) -> Result<ReloadResult, ClientError> {
        self.send_json(
            self.request(Scope::Control, Method::POST, "/admin/reload")
                .await?,
        )
        .await
    }

    /// `GET /admin/log-level`
    ///
    /// # Errors
    ///
    /// [`ClientError`]
    pub async fn log_level(&self) -> Result<LogLevelStatus, ClientError> {
        self.send_json(
            self.request(Scope::Read, Method::GET, "/admin/log-level")
                .await?,
        )
        .await
    }

    /// `GET /admin/logs`
    ///
    /// # Errors
    ///
    /// [`ClientError`]
    pub async fn logs(&self, query: &LogQuery) -> Result<LogPage, ClientError> {
        self.send_json(
            self.request(Scope::Logs, Method::GET, "/admin/logs")
                .await?
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
            .request(Scope::Logs, Method::GET, "/admin/logs/stream")
            .await?
            .query(query);
        // The timeout is for the response headers: the stream has no end.
        let response = tokio::time::timeout(RESPONSE_TIMEOUT, self.send(request)).await;
        let response = response.map_err(|_| self.timed_out(RESPONSE_TIMEOUT))??;
        Ok(LogEvents::new(response, self.base.clone()))
    }

    /// `GET /admin/audit`: the last records before the one with the number `before_seq`.
    ///
    /// # Errors
    ///
    /// [`ClientError`]
    pub async fn audit(
        &self,
        lines: u32,
        before_seq: Option<u64>,
    ) -> Result<AuditPage, ClientError> {
        let request = self
            .request(Scope::Logs, Method::GET, "/admin/audit")
            .await?
            .query(&[("lines", u64::from(lines))]);
        self.send_json(match before_seq {
            Some(before) => request.query(&[("before_seq", before)]),
            None => request,
        })
        .await
    }

    /// `POST /admin/session/token`, for a session with these scopes that lasts a working day.
    ///
    /// # Errors
    ///
    /// [`ClientError`]
    pub async fn create_sign_in_token(&self, scopes: Scopes) -> Result<SignInToken, ClientError> {
        let lifetime = Some(MAX_SESSION_LIFETIME);
        self.send_json(
            self.signed_request(
                RESPONSE_TIMEOUT,
                scopes,
                lifetime,
                Method::POST,
                "/admin/session/token",
            )
            .await?,
        )
        .await
    }

    /// Checks that the daemon has the configured key of this client. No token is sent.
    ///
    /// # Errors
    ///
    /// It has another key, or another [`ClientError`].
    pub async fn check_key(&self) -> Result<(), ClientError> {
        self.prove(&format!("{} {PROOF_PATH}", Method::POST)).await
    }

    /// `GET /admin/sessions`
    ///
    /// # Errors
    ///
    /// [`ClientError`]
    pub async fn sessions(&self) -> Result<Vec<SessionSummary>, ClientError> {
        self.send_json(
            self.request(Scope::Logs, Method::GET, "/admin/sessions")
                .await?,
        )
        .await
    }

    /// `DELETE /admin/sessions/{id}`
    ///
    /// # Errors
    ///
    /// [`ClientError`]
    pub async fn end_session(&self, id: &str) -> Result<(), ClientError> {
        // The id becomes part of the path.
        let is_id = id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let id = if is_id && !id.is_empty() { id } else { "-" };
        let (method, template) = (Method::DELETE, "/admin/sessions/{id}");
        let path = template.replace("{id}", id);
        let request = self.request(Scope::Control, method, &path).await?;
        let response = tokio::time::timeout(RESPONSE_TIMEOUT, self.send(request)).await;
        response.map_err(|_| self.timed_out(RESPONSE_TIMEOUT))??;
        Ok(())
    }

    /// `POST /admin/tokens/revoke`. The daemon waits for the disk, and for the next second. `sent`
    /// receives the token of the request, which may be carried out later if this fails.
    ///
    /// # Errors
    ///
    /// [`ClientError`]
    pub async fn revoke_tokens(
        &self,
        request: &RevokeRequest,
        timeout: Duration,
        sent: &mut Option<Secret>,
    ) -> Result<RevokeResult, ClientError> {
        let scopes = Scopes::default().with(Scope::Control);
        let (method, path) = (Method::POST, "/admin/tokens/revoke");
        let (call, token) = self
            .request_with_token(timeout, scopes, None, method, path)
            .await?;
        *sent = Some(token);
        self.send_json_within(call.json(request), timeout).await
    }

    /// A request whose token is valid for nothing else.
    async fn request(
        &self,
        needed: Scope,
        method: Method,
        path: &str,
    ) -> Result<RequestBuilder, ClientError> {
        self.request_within(RESPONSE_TIMEOUT, needed, method, path)
            .await
    }

    /// The same, for a response that may take `timeout`.
    async fn request_within(
        &self,
        timeout: Duration,
        needed: Scope,
        method: Method,
        path: &str,
    ) -> Result<RequestBuilder, ClientError> {
        let scopes = Scopes::default().with(needed);
        self.signed_request(timeout, scopes, None, method, path)
            .await
    }

    /// A request whose token may create a session of this lifetime.
    ///
    /// The token of a local command ends with `timeout`. A daemon that answers later does not carry
    /// the request out any more: the command has sent a signal instead, or has changed the files.
    async fn signed_request(
        &self,
        timeout: Duration,
        scopes: Scopes,
        session_lifetime: Option<Duration>,
        method: Method,
        path: &str,
    ) -> Result<RequestBuilder, ClientError> {
        let signed = self.request_with_token(timeout, scopes, session_lifetime, method, path);
        signed.await.map(|(request, _)| request)
    }

    /// The same, with its token.
    async fn request_with_token(
        &self,
        timeout: Duration,
        scopes: Scopes,
        session_lifetime: Option<Duration>,
        method: Method,
        path: &str,
    ) -> Result<(RequestBuilder, Secret), ClientError> {
        let url = self.url(path)?;
        let request = format!("{method} {path}");
        self.prove(&request).await?;
        let lifetime = if self.signer.is_of_instance() {
            timeout.min(TOKEN_LIFETIME)
        } else {
            TOKEN_LIFETIME
        };
        let signed = self.signer.sign_for_request(
            &self.subject,
            scopes,
            lifetime,
            session_lifetime,
            &request,
        )?;
        let request = self.http.request(method, url).bearer_auth(&signed);
        Ok((request, Secret::new(signed)))
    }

    /// Both sides prove that they have the configured key. The daemon's proof is for this request
    /// only.
    async fn prove(&self, request: &str) -> Result<(), ClientError> {
        let Some(key) = self.signer.proof_key() else {
            return Ok(());
        };
        let nonce = generate_nonce()?;
        let proof = ProofRequest {
            mac: key.prove(ProofSide::Client, &nonce, request),
            req: request.to_owned(),
            nonce,
        };
        let call = self.http.post(self.url(PROOF_PATH)?).json(&proof);
        let answer: ProofResult = self.send_json(call).await?;
        key.verify(ProofSide::Daemon, &proof.nonce, request, &answer.mac)
            .map_err(|_| {
                let detail = "it does not have the signing key; no token was sent";
                ClientError::unexpected_server(&self.base, detail.into())
            })
    }

    fn url(&self, path: &str) -> Result<Url, ClientError> {
        self.base
            .join(path)
            .map_err(|_| ClientError::InvalidAddress(self.base.to_string()))
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
        if let Some(reason) = find_untrusted(error) {
            ClientError::Untrusted {
                base: self.base.to_string(),
                reason: reason.clone(),
            }
        } else if error.is_timeout() {
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

/// The addresses of the URL's host. If any is a loopback address, that one: of several, one where
/// something listens.
fn resolve(url: &Url) -> Result<Vec<SocketAddr>, ClientError> {
    let port = url.port_or_known_default().unwrap_or_default();
    let host = url.host_str().unwrap_or_default();
    let addresses: Vec<SocketAddr> = if let Some(name) = url.domain() {
        let found = (name, port).to_socket_addrs();
        let found = found.map_err(|error| ClientError::unreachable(url, error.to_string()));
        found?.collect()
    } else {
        let ip: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
        ip.map(|ip| SocketAddr::new(ip, port)).into_iter().collect()
    };
    let loopback = |address: &&SocketAddr| is_loopback(reachable_address(**address));
    let is_used = |address: &&SocketAddr| {
        sockets_accepting(**address).is_ok_and(|sockets| !sockets.is_empty())
    };
    let mut local = addresses.iter().filter(loopback);
    let used = match local.clone().count() {
        // The kernel need not be asked.
        0 | 1 => None,
        _ => local.clone().find(is_used),
    };
    let used = used.or_else(|| local.next());
    Ok(used.map_or_else(|| addresses.clone(), |address| vec![*address]))
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

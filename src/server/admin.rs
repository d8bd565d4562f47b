//! The admin API: what an operator asks and orders.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use poem::http::{HeaderMap, StatusCode};
use poem::web::Data;
use poem::{EndpointExt as _, Request};
use poem_openapi::param::{Header, Query};
use poem_openapi::{OpenApi, OpenApiService, Tags};
use tokio::sync::oneshot;

use super::audit::Audit;
use super::clients::Clients;
pub use super::guard::Gate;
use super::guard::{Authorized, Control, Logs, Newcomer, Read, SignedIn, TokenHolder};
use super::log_stream::{self, LogStream, PageText};
use super::metrics::{Exposition, Metrics};
use super::orders::{
    Order, Orders, ReloadOrder, RestartFailure, RestartFailureKind, RestartOrder, SignOutOrder,
    StopOrder,
};
use super::payload::{Accepted, Created, Json, OptionalBody, RequiredBody};
use super::problem::Failure;
use super::readers::Readers;
use super::refused_tokens::RefusedTokens;
use super::service::Service;
use super::session::{Begun, Ended, SessionCookie};
use super::shutdown::Shutdown;
use super::{console, docs, openapi, usage};
use crate::api::{
    HttpUsage, LastExit, LogLevel, LogLevelRequest, MAX_REVERT, MAX_TIMEOUT, MIN_SUCCESSOR_TIMEOUT,
    Phase, ReloadDone, RestartDone, RestartRequest, SERVICE, SUCCESSOR_TIMEOUT, Session,
    SettingEntry, SignInToken, Status, StopAccepted, StopRequest, VERSION, base_url,
};
use crate::auth::{BeginError, Keyring, Refused, SIGN_IN_LIFETIME, Sessions, SignIns};
use crate::config::{InForce, parse_log_filter};
use crate::health::Health;
use crate::logs::{self, Cursor, FilterTexts, From, Level, LevelNow, Watcher};

type Result<T> = std::result::Result<T, Failure>;

/// What the admin API tells and whom it orders.
pub struct Context {
    /// UUID of this process's life.
    pub instance: String,
    /// When the process started.
    pub started_at: Timestamp,
    /// The same on a clock that does not jump.
    pub started: Instant,
    /// Where the public server listens.
    pub public: SocketAddr,
    /// Where the admin server listens.
    pub admin: SocketAddr,
    /// 1, and one more at each zero-downtime restart.
    pub generation: u32,
    /// How the previous instance ended.
    pub last_exit: Option<LastExit>,
    /// The settings in force.
    pub in_force: Arc<InForce>,
    /// Phase and checks.
    pub health: Arc<Health>,
    /// The clients of both servers.
    pub clients: [Arc<Clients>; 2],
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What is logged.
    pub level: Arc<Level>,
    /// What callers are checked against.
    pub gate: Arc<Gate>,
    /// The log file, if the log goes to one.
    pub log: Option<Arc<Watcher>>,
    /// Takes what is asked for.
    pub orders: Orders,
    /// Whether it is this process that carries out orders: not yet while it takes over.
    pub is_in_charge: Arc<AtomicBool>,
    /// Ends streams when it begins.
    pub shutdown: Shutdown,
    /// Who reads the log for long.
    pub readers: Readers,
}

impl Context {
    /// What both servers together do.
    fn usage(&self) -> HttpUsage {
        let [public, admin] = self.clients.each_ref().map(|clients| clients.usage());
        HttpUsage {
            connections: public.connections + admin.connections,
            in_flight: public.in_flight + admin.in_flight,
            requests_total: public.requests_total + admin.requests_total,
        }
    }
}

/// The admin server's service.
#[must_use]
pub fn service(context: Context) -> Arc<Service> {
    let pages = || console::paths().chain(docs::paths("/admin"));
    let allow = move || openapi::allowed_methods(&openapi::admin_document(), pages());
    let [_, clients] = context.clients.clone();
    let shutdown = context.shutdown.clone();
    let address = context.admin.ip();
    let gate = Arc::clone(&context.gate);
    let paths = openapi::paths(&document_service()).into_iter();
    let counted = context.metrics.routes("admin", paths.chain(pages()), []);
    let pages = docs::routes("/admin", openapi::admin_document, document_service);
    let endpoint = console::add_to(pages)
        .nest("/", openapi_service(Some(context)))
        .around(console::lead)
        .data(gate)
        .map_to_response()
        .boxed();
    let service = Service::new("admin", endpoint, allow, clients, counted, shutdown);
    Arc::new(service.guarded(address))
}

/// What the callers of the admin API at this address are checked against.
#[must_use]
pub fn gate(
    admin: SocketAddr,
    keyring: Keyring,
    sessions: Arc<Sessions>,
    failed_tokens_per_minute: u32,
) -> Arc<Gate> {
    Arc::new(Gate {
        keyring,
        sessions,
        sign_ins: SignIns::default(),
        cookie: SessionCookie::of_port(admin.port()),
        refused: RefusedTokens::new(failed_tokens_per_minute),
    })
}

/// Without a context it only describes itself.
fn openapi_service(context: Option<Context>) -> OpenApiService<AdminApi, ()> {
    OpenApiService::new(AdminApi(context), "Fullon Master API: admin", VERSION).description(
        "Operates the daemon: status, settings, stop, restart, reload, log. Bound to loopback, and every operation needs a token, or the session that a token was traded for.",
    )
}

pub(super) fn document_service() -> OpenApiService<AdminApi, ()> {
    openapi_service(None)
}

/// What an operation is about.
#[derive(Tags)]
#[oai(rename_all = "lowercase")]
enum Tag {
    /// The process: how it is doing, and what becomes of it.
    Daemon,
    /// What it was told at its start, and since.
    Settings,
    /// Reading the log, and following it.
    Log,
    /// Cookies in place of tokens, for pages.
    Session,
}

pub(super) struct AdminApi(Option<Context>);

impl AdminApi {
    fn context(&self) -> Result<&Context> {
        self.0.as_ref().ok_or_else(|| {
            Failure::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "this API only describes itself",
            )
        })
    }

    fn log(&self) -> Result<&Arc<Watcher>> {
        self.context()?.log.as_ref().ok_or_else(|| {
            Failure::new(
                StatusCode::CONFLICT,
                "the log goes to stdout and cannot be read back: set LOG_FILE to a file",
            )
        })
    }
}

#[expect(clippy::unused_async, reason = "operations of poem-openapi are async")]
#[OpenApi]
impl AdminApi {
    /// How the daemon is doing.
    #[oai(
        path = "/admin/status",
        method = "get",
        operation_id = "get_status",
        tag = "Tag::Daemon"
    )]
    async fn status(&self, _caller: Authorized<Read>) -> Result<Json<Status>> {
        let context = self.context()?;
        let server = base_url(context.public);
        let settings = context.in_force.settings();
        let in_force = Arc::clone(&context.in_force);
        let (pending_restart, process) =
            log_stream::blocking(move || (in_force.pending(), usage::read())).await?;
        Ok(Json(Status {
            service: SERVICE.into(),
            version: VERSION.into(),
            phase: context.health.phase(),
            pid: std::process::id(),
            instance: context.instance.clone(),
            generation: context.generation,
            started_at: context.started_at.to_string(),
            uptime_seconds: context.started.elapsed().as_secs_f64(),
            docs: format!("{server}/docs"),
            health: format!("{server}/health"),
            server,
            admin: base_url(context.admin),
            pid_file: settings.pid_file.display().to_string(),
            log_file: settings
                .log
                .target
                .file()
                .map_or_else(|| "-".into(), |path| path.display().to_string()),
            log_level: context.level.now().filter,
            process,
            http: context.usage(),
            checks: context.health.checks(),
            pending_restart,
            last_exit: context.last_exit.clone(),
        }))
    }

    /// Every setting in force, secrets masked, and where it came from.
    #[oai(
        path = "/admin/config",
        method = "get",
        operation_id = "get_config",
        tag = "Tag::Settings"
    )]
    async fn config(&self, _caller: Authorized<Read>) -> Result<Json<Vec<SettingEntry>>> {
        Ok(Json(self.context()?.in_force.settings().entries().to_vec()))
    }

    /// Figures for Prometheus, in its text format 0.0.4.
    #[oai(
        path = "/admin/metrics",
        method = "get",
        operation_id = "get_metrics",
        tag = "Tag::Daemon"
    )]
    async fn metrics(&self, _caller: Authorized<Read>) -> Result<Exposition> {
        Exposition::of(self.context()?)
            .await
            .map_err(|error| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
    }

    /// What is logged.
    #[oai(
        path = "/admin/log-level",
        method = "get",
        operation_id = "get_log_level",
        tag = "Tag::Log"
    )]
    async fn log_level(&self, _caller: Authorized<Read>) -> Result<Json<LogLevel>> {
        Ok(Json(LogLevel::from(self.context()?.level.now())))
    }

    /// Log more or less, for a while.
    ///
    /// After `revert_after_seconds` the configured level is in force again by itself; without, it is after the next restart, or
    /// a reload of another `LOG_LEVEL`. The audit trail is logged at every level, and none names `audit`. 409 from a process that is being replaced, or
    /// was.
    #[oai(
        path = "/admin/log-level",
        method = "put",
        operation_id = "set_log_level",
        tag = "Tag::Log"
    )]
    async fn set_log_level(
        &self,
        _caller: Authorized<Control>,
        audit: Data<&Arc<Audit>>,
        body: RequiredBody<LogLevelRequest>,
    ) -> Result<Json<LogLevel>> {
        let context = self.context()?;
        let LogLevelRequest {
            level,
            revert_after_seconds,
        } = body.0;
        let filter =
            parse_log_filter(&level).map_err(|reason| Failure::bad_parameter("level", reason))?;
        if logs::names_audit(&filter) {
            return Err(Failure::bad_parameter(
                "level",
                "names `audit`: how much of the trail of changes is logged is for LOG_LEVEL to say",
            ));
        }
        let time = match revert_after_seconds {
            None => None,
            Some(seconds) if (1.0..=MAX_REVERT).contains(&seconds) => {
                Some(Duration::from_secs_f64(seconds))
            }
            Some(_) => {
                let reason = format!("is not from 1 to {MAX_REVERT}");
                return Err(Failure::bad_parameter("revert_after_seconds", reason));
            }
        };
        refuse_unless_in_charge(context)?;
        audit.accepted_for_level(&filter, time);
        context
            .level
            .change(&filter, time)
            .map_err(|error| Failure::bad_parameter("level", error.to_string()))?;
        Ok(Json(LogLevel::from(context.level.now())))
    }

    /// Stop the daemon.
    ///
    /// It drains: health says 503; after DRAIN_DELAY listeners close, streams end, and requests in flight are finished, at
    /// most until the deadline. A second order changes nothing. 409 from a process that is being replaced, or was: ask again, on a new connection.
    #[oai(
        path = "/admin/stop",
        method = "post",
        operation_id = "stop",
        tag = "Tag::Daemon"
    )]
    async fn stop(
        &self,
        caller: Authorized<Control>,
        audit: Data<&Arc<Audit>>,
        body: OptionalBody<StopRequest>,
    ) -> Result<Accepted<StopAccepted>> {
        let context = self.context()?;
        let settings = context.in_force.settings();
        let timeout = match body.0.and_then(|order| order.timeout_seconds) {
            None => settings.shutdown_timeout,
            Some(seconds) => timeout_of(seconds, 0.0)?,
        };
        refuse_unless_in_charge(context)?;
        let order = Order::Stop(StopOrder {
            subject: caller.claims.subject,
            timeout,
        });
        if context.orders.send(order).await.is_ok() {
            audit.accepted(Some(timeout));
            // Before anybody reads the answer, and also while a successor is waited for that will not be.
            context.health.enter(Phase::Draining);
        } else {
            // Nobody takes orders any more once it drains: because it stops already, or was replaced.
            refuse_unless_in_charge(context)?;
            audit.accepted(None);
        }
        let deadline = context.shutdown.due_within(settings.drain_delay + timeout);
        Ok(Accepted(StopAccepted {
            phase: Phase::Draining,
            pid: std::process::id(),
            in_flight: context.usage().in_flight.saturating_sub(1),
            deadline: deadline.at.to_string(),
            seconds_left: Some(deadline.left().as_secs_f64()),
        }))
    }

    /// Replace the daemon, without refusing or losing a request.
    ///
    /// The successor is the program now on disk with the settings now in `.env`. It takes over the listening sockets, and
    /// the answer comes once it serves; then this process drains. If it does not serve in time, or says why it cannot, this
    /// process goes on as before and the answer tells: 422 for settings that are not valid, 504 for one that was too slow,
    /// 500 for anything else. 409 while another restart or a stop is under way.
    #[oai(
        path = "/admin/restart",
        method = "post",
        operation_id = "restart",
        tag = "Tag::Daemon"
    )]
    async fn restart(
        &self,
        caller: Authorized<Control>,
        audit: Data<&Arc<Audit>>,
        body: OptionalBody<RestartRequest>,
    ) -> Result<Json<RestartDone>> {
        let context = self.context()?;
        let timeout = match body.0.and_then(|order| order.timeout_seconds) {
            None => SUCCESSOR_TIMEOUT,
            Some(seconds) => timeout_of(seconds, MIN_SUCCESSOR_TIMEOUT)?,
        };
        refuse_unless_in_charge(context)?;
        audit.accepted(Some(timeout));
        let order = |answer| {
            Order::Restart(RestartOrder {
                subject: caller.claims.subject,
                timeout,
                answer,
            })
        };
        let done = ordered(context, order).await?;
        Ok(Json(done.map_err(|failure| Failure::from(&failure))?))
    }

    /// Read the settings again.
    ///
    /// They are validated first: an invalid file changes nothing, and the answer is 422 with everything that is wrong in
    /// `errors`. What can change in place is in force then (log level, rotation, secrets, databases, SHUTDOWN_TIMEOUT, DRAIN_DELAY), and
    /// the log file is opened anew; the rest is named and waits for a restart. 409 when the daemon is stopping or was replaced
    /// meanwhile.
    #[oai(
        path = "/admin/reload",
        method = "post",
        operation_id = "reload",
        tag = "Tag::Settings"
    )]
    async fn reload(
        &self,
        caller: Authorized<Control>,
        audit: Data<&Arc<Audit>>,
    ) -> Result<Json<ReloadDone>> {
        let context = self.context()?;
        refuse_unless_in_charge(context)?;
        audit.accepted(None);
        let order = |answer| {
            Order::Reload(ReloadOrder {
                subject: caller.claims.subject,
                answer,
            })
        };
        let done = ordered(context, order).await?;
        Ok(Json(done.map_err(|problems| {
            Failure::invalid_configuration(&problems)
        })?))
    }

    /// The last lines of the log.
    ///
    /// As JSON, or with `Accept: text/plain` the raw lines, however many: they are sent as they are read. Rotated files
    /// that are still there are part of the log.
    #[oai(
        path = "/admin/logs",
        method = "get",
        operation_id = "get_logs",
        tag = "Tag::Log"
    )]
    #[allow(clippy::too_many_arguments)]
    async fn logs(
        &self,
        _caller: Authorized<Logs>,
        request: &Request,
        /// How many lines at most; with text/plain up to 10,000,000.
        #[oai(
            default = "default_lines",
            validator(minimum(value = "1"), maximum(value = "10000000"))
        )]
        lines: Query<u32>,
        /// Only lines of this level or a more severe one: error, warn, info, debug, trace.
        level: Query<Option<String>>,
        /// Only lines that contain this text.
        contains: Query<Option<String>>,
        /// Only lines since then: an RFC 3339 timestamp, or how long ago, such as `10m`.
        since: Query<Option<String>>,
        /// Only lines before the line with this cursor.
        before: Query<Option<String>>,
    ) -> Result<log_stream::Lines> {
        let context = self.context()?;
        let path = self.log()?.path().to_owned();
        let filter = log_stream::filter(FilterTexts {
            level: level.0.as_deref(),
            contains: contains.0.as_deref(),
            since: since.0.as_deref(),
        })?;
        let before = parse_cursor("before", before.0.as_deref())?;
        let (lines, wants_text) = (lines.0 as usize, log_stream::wants_text(request));
        if lines > MAX_PAGE_LINES && !wants_text {
            return Err(Failure::bad_parameter(
                "lines",
                "is more than 10000: with text/plain it may be",
            ));
        }
        if filter.is_empty()
            && before.is_none()
            && let Some(lines) = log_stream::Lines::at_hand(&path, lines, wants_text)
        {
            return Ok(lines);
        }
        let seat = context.readers.seat()?;
        let search = move || {
            if wants_text {
                logs::last_lines_as_text(&path, lines, filter, before)
            } else {
                logs::last_lines_found(&path, lines, filter, before)
            }
        };
        let found = {
            let _turn = context.readers.turn().await;
            log_stream::blocking(search).await?
        };
        let found = found.map_err(|error| log_stream::unreadable(&error))?;
        Ok(if wants_text {
            log_stream::Lines::Text(found, seat)
        } else {
            log_stream::Lines::Page(PageText::of(found), seat)
        })
    }

    /// Follow the log.
    ///
    /// Server-sent events (HTML standard, section 9.2): `log` with a `LogEntry` as data and its cursor as id, first
    /// the last lines and then each new one; `gap` where lines are missing, because the place asked for is gone or a
    /// rotated file was removed before it was read; `end` with a `StreamEnd` when the daemon stops or is replaced, or the session that opened it ends. At the beginning and
    /// at least every 15 s a comment, with the id of the place that was reached.
    #[oai(
        path = "/admin/logs/stream",
        method = "get",
        operation_id = "stream_logs",
        tag = "Tag::Log"
    )]
    #[allow(clippy::too_many_arguments)]
    async fn stream(
        &self,
        caller: Authorized<Logs>,
        request: &Request,
        /// How many of the last lines come first.
        #[oai(
            default = "default_lines",
            validator(minimum(value = "0"), maximum(value = "10000"))
        )]
        lines: Query<u32>,
        /// Only lines of this level or a more severe one: error, warn, info, debug, trace.
        level: Query<Option<String>>,
        /// Only lines that contain this text.
        contains: Query<Option<String>>,
        /// Only lines since then: an RFC 3339 timestamp, or how long ago, such as `10m`.
        since: Query<Option<String>>,
        /// Go on after the line with this cursor; `lines` does not count then.
        after: Query<Option<String>>,
        /// As `after`, which it beats: what an `EventSource` sends when it reconnects.
        #[oai(name = "Last-Event-ID")]
        last_event_id: Header<Option<String>>,
    ) -> Result<LogStream> {
        let filter = log_stream::filter(FilterTexts {
            level: level.0.as_deref(),
            contains: contains.0.as_deref(),
            since: since.0.as_deref(),
        })?;
        if request.headers().contains_key("last-event-id") && last_event_id.0.is_none() {
            return Err(Failure::bad_parameter("Last-Event-ID", "is not text"));
        }
        let resume = match last_event_id.0.as_deref().filter(|id| !id.is_empty()) {
            Some(id) => parse_cursor("Last-Event-ID", Some(id))?,
            None => parse_cursor("after", after.0.as_deref())?,
        };
        let from = resume.map_or(From::Last(lines.0 as usize), From::After);
        let context = self.context()?;
        let log = Arc::clone(self.log()?);
        let seat = context.readers.seat()?;
        // Where the history begins is searched for.
        let turn = match from {
            From::Last(_) => context.readers.turn().await,
            From::After(_) => None,
        };
        let stream = LogStream::new(log, from, filter, &context.shutdown, seat).await?;
        drop(turn);
        Ok(match &caller.session {
            Some(session) => stream.within(session),
            None => stream,
        })
    }

    /// Sign in: trade a token for a session.
    ///
    /// The session is a cookie, for pages whose `EventSource` cannot send a token. It allows what the token did, lives
    /// for twelve hours, and counts also after the daemon was restarted. There are 64 at once: one more ends the one that was
    /// used least recently, of the same subject if there is one. A token of `POST /admin/session/token` does, too, once.
    #[oai(
        path = "/admin/session",
        method = "post",
        operation_id = "create_session",
        tag = "Tag::Session"
    )]
    async fn create_session(
        &self,
        caller: Newcomer,
        asked: &HeaderMap,
        audit: Data<&Arc<Audit>>,
        gate: Data<&Arc<Gate>>,
    ) -> Result<Begun> {
        let failed = |error: &dyn std::error::Error| {
            Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
        };
        let begun = gate.sessions.begin(&caller.claims);
        let (session, value) = begun.map_err(|error| match error {
            BeginError::KeyChanged => Failure::unauthorized(Some(Refused::Signature)),
            BeginError::Sign(error) => failed(&error),
        })?;
        audit.accepted_for_session(session.id);
        Begun::new(&gate.cookie, asked, session, &value).map_err(|error| failed(&error))
    }

    /// A token that does nothing but sign in, once and within a minute.
    ///
    /// For an address that others may see afterwards: `fullon console` prints one. What it signs in to allows what the caller's
    /// token does. A restart or another key forgets it; there are 64 at once, and one more drops the oldest, of the same subject if there is one.
    #[oai(
        path = "/admin/session/token",
        method = "post",
        operation_id = "create_sign_in_token",
        tag = "Tag::Session"
    )]
    async fn create_sign_in_token(
        &self,
        caller: TokenHolder,
        audit: Data<&Arc<Audit>>,
        gate: Data<&Arc<Gate>>,
    ) -> Result<Created<SignInToken>> {
        refuse_unless_in_charge(self.context()?)?;
        let token = gate.sign_ins.begin(&caller.claims, Instant::now());
        let token = token
            .map_err(|error| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
        audit.accepted(Some(SIGN_IN_LIFETIME));
        Ok(Created(SignInToken {
            token: token.expose().to_owned(),
            expires_in_seconds: SIGN_IN_LIFETIME.as_secs(),
        }))
    }

    /// Who is signed in, and what the session allows.
    #[oai(
        path = "/admin/session",
        method = "get",
        operation_id = "get_session",
        tag = "Tag::Session"
    )]
    async fn session(&self, caller: SignedIn) -> Result<Json<Session>> {
        Ok(Json(caller.session.into()))
    }

    /// Sign out: end the session.
    ///
    /// Its cookie is removed from the browser and counts no more, also after a restart or a crash. Streams that were opened
    /// with it end. 409 while a restart or a stop is under way.
    #[oai(
        path = "/admin/session",
        method = "delete",
        operation_id = "delete_session",
        tag = "Tag::Session"
    )]
    async fn delete_session(
        &self,
        caller: SignedIn,
        asked: &HeaderMap,
        audit: Data<&Arc<Audit>>,
        gate: Data<&Arc<Gate>>,
    ) -> Result<Ended> {
        let context = self.context()?;
        refuse_unless_in_charge(context)?;
        let session = caller.session;
        let id = session.id;
        let audit = Arc::clone(audit.0);
        let orders = context.orders.clone();
        // Carried out, it is in the audit trail, also when the client has gone meanwhile.
        let ended = tokio::spawn(async move {
            let (answer, ended) = oneshot::channel();
            let _ = orders
                .send(Order::SignOut(SignOutOrder { session, answer }))
                .await;
            let ended = ended.await;
            if ended.is_ok() {
                audit.accepted_for_session(id);
            }
            ended
        });
        match ended.await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => {
                return Err(Failure::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    format!(
                        "the session has ended, but a crash would bring it back, because the state file could not be written: {error}"
                    ),
                ));
            }
            _ => return Err(out_of_charge()),
        }
        Ended::new(&gate.cookie, asked)
            .map_err(|error| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
    }
}

/// Of a page of JSON, which most clients have in memory whole.
pub(super) const MAX_PAGE_LINES: usize = 10_000;

fn timeout_of(seconds: f64, least: f64) -> Result<Duration> {
    if (least..=MAX_TIMEOUT).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        let reason = format!("is not from {least} to {MAX_TIMEOUT}");
        Err(Failure::bad_parameter("timeout_seconds", reason))
    }
}

/// While one process takes over from another, both answer; only the one that owns the PID file carries out orders. Later a
/// client that kept its connection may still ask the one that was replaced.
fn refuse_unless_in_charge(context: &Context) -> Result<()> {
    let refuse = |detail| Err(Failure::new(StatusCode::CONFLICT, detail));
    if context.shutdown.has_successor() {
        return refuse("this process was replaced and drains: ask again, on a new connection");
    }
    if !context.is_in_charge.load(Ordering::Acquire) {
        return refuse("another restart is under way, and this process is taking over: ask again");
    }
    Ok(())
}

/// Has the order carried out, and waits for what becomes of it.
async fn ordered<T>(
    context: &Context,
    order: impl FnOnce(oneshot::Sender<T>) -> Order,
) -> Result<T> {
    let (answer, outcome) = oneshot::channel();
    // Whoever takes no more orders drops this one, and its answer with it.
    let _ = context.orders.send(order(answer)).await;
    outcome.await.map_err(|_| out_of_charge())
}

fn out_of_charge() -> Failure {
    let detail = "the daemon is stopping, or was replaced meanwhile: ask again";
    Failure::new(StatusCode::CONFLICT, detail)
}

impl std::convert::From<LevelNow> for LogLevel {
    fn from(now: LevelNow) -> Self {
        Self {
            level: now.filter,
            configured_level: now.configured,
            revert_after_seconds: now.left.map(|left| left.as_secs_f64()),
        }
    }
}

impl std::convert::From<&RestartFailure> for Failure {
    fn from(failure: &RestartFailure) -> Self {
        let status = match failure.kind {
            RestartFailureKind::Busy => StatusCode::CONFLICT,
            RestartFailureKind::Settings => StatusCode::UNPROCESSABLE_ENTITY,
            RestartFailureKind::Failed => StatusCode::INTERNAL_SERVER_ERROR,
            RestartFailureKind::Late => StatusCode::GATEWAY_TIMEOUT,
        };
        Self::new(status, failure.reason.as_str())
    }
}

fn default_lines() -> u32 {
    50
}

fn parse_cursor(name: &str, text: Option<&str>) -> Result<Option<Cursor>> {
    text.map(|text| {
        text.parse()
            .map_err(|error| Failure::bad_parameter(name, error))
    })
    .transpose()
}

//! Fuzz targets of requests to the admin API, which is served in this thread.

#![expect(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "a broken promise has to panic"
)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN,
};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use reqwest::Url;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::api::{LogLevelRequest, LogLevelStatus, LogPage, MAX_REVERT_SECONDS};
use crate::audit::AuditTrail;
use crate::auth::{
    ConfiguredKeys, Keyring, Scopes, SessionStore, SessionValues, StoredSessions, TokenSigner,
};
use crate::config::{
    EnvFileChoice, Flags, LiveSettings, Secret, Settings, SettingsLocation, Sources,
    TrustedProxies, parse_log_filter,
};
use crate::fuzzing::split_first_line;
use crate::health::{Health, Phase};
use crate::logs::fuzz_targets::TestLog;
use crate::logs::{Cursor, Follower, LevelControl, LogBroadcaster, StartAt, names_audit};
use crate::server::admin::{AdminState, auth_state, service};
use crate::server::http::forwarded::forwarded_hops;
use crate::server::metrics::Metrics;
use crate::server::{ConnectionPool, ConnectionPools, LogReaderLimit, Shutdown, run};
use crate::sys;

/// More lines than the log has.
const LINES: &str = "lines=100";
/// A much larger request is answered before it was sent completely, and its connection is closed.
const MAX_REQUEST: usize = 8 * 1024;
const DAY: Duration = Duration::from_hours(24);

struct TestServer {
    address: std::net::SocketAddr,
    token: String,
    session: SessionValues,
    newest: Cursor,
    connection: RefCell<Option<SendRequest<Full<Bytes>>>>,
    /// As long as there is one follower, the next one needs no new inotify instance.
    _follower: Follower,
    _log: TestLog,
    runtime: Runtime,
}

struct Response {
    status: StatusCode,
    content_type: String,
    body: Bytes,
}

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

thread_local! {
    static TRUSTED: TrustedProxies = {
        let flags = Flags::from([("TRUSTED_PROXIES".to_owned(), "10.0.0.0/8".to_owned())]);
        let file = EnvFileChoice::Explicit("/dev/null".into());
        let sources = Sources::read(&flags, &file, "/".as_ref(), &BTreeMap::new());
        Settings::load(&sources).unwrap().trusted_proxies
    };
    static SERVER: TestServer = TestServer::start();
}

impl TestServer {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let entered = runtime.enter();
        let log = TestLog::new();
        let listener = sys::listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let origin = SettingsLocation {
            directory: "/".into(),
            env_file: Some("/dev/null".into()),
            flags: Flags::new(),
        };
        let settings = Settings::load(&origin.read_sources()).unwrap();
        let key = Secret::new("a key of a fuzzed daemon, long enough".into());
        let keys = Arc::new(ConfiguredKeys::new(&key, None));
        let keyring = Keyring::new(Arc::clone(&keys), &key);
        let sessions = Arc::new(SessionStore::new(keys, StoredSessions::default()));
        let signer = TokenSigner::with_configured_key(&key);
        let token = signer.sign("me", Scopes::ALL, DAY).unwrap();
        let claims = keyring.verify(&token).unwrap();
        let (_, session) = sessions.create(&claims).unwrap();
        let health = Arc::new(Health::new(None));
        health.enter(Phase::Ready);
        let broadcaster = LogBroadcaster::new(log.path.clone());
        let follower = Follower::new(
            &broadcaster,
            StartAt::Last(0),
            crate::logs::Filter::default(),
        );
        let shutdown = Shutdown::new();
        let limits = &settings.limits;
        let pool = || Arc::new(ConnectionPool::new(limits.clone(), 100));
        let pools = ConnectionPools {
            public: pool(),
            admin: pool(),
        };
        let live_settings = Arc::new(LiveSettings::new(origin, settings.clone()));
        let auth = auth_state(
            address,
            Arc::clone(&live_settings),
            keyring,
            sessions,
            limits.failed_tokens_per_minute,
        );
        let readers = LogReaderLimit::new(Arc::clone(&pools.admin));
        let service = service(Arc::new(AdminState {
            instance: "fuzzed".into(),
            started_at: Timestamp::now(),
            started: Instant::now(),
            public_address: address,
            further_public_addresses: Vec::new(),
            admin_address: address,
            generation: 1,
            last_exit: None,
            live_settings,
            connections: pools,
            auth,
            metrics: Arc::new(Metrics::new().unwrap()),
            audit: Arc::new(AuditTrail::new(None, "fuzzed")),
            log_level: Arc::new(LevelControl::new(
                "info",
                Box::new(|_| Ok(())),
                Arc::default(),
            )),
            health,
            workers: None,
            log: Some(broadcaster),
            // No task receives the requests.
            control: mpsc::channel(1).0,
            is_active: Arc::new(AtomicBool::new(true)),
            shutdown: shutdown.clone(),
            log_readers: readers,
        }));
        tokio::spawn(run(listener, service, shutdown));
        drop(entered);
        Self {
            address,
            token,
            session,
            newest: *log.cursors().last().unwrap(),
            connection: RefCell::default(),
            _follower: follower.unwrap(),
            _log: log,
            runtime,
        }
    }

    /// Sends a request; `None` if hyper's client cannot send it.
    fn request(
        &self,
        method: &Method,
        path: &str,
        headers: &[(HeaderName, &[u8])],
        body: &[u8],
    ) -> Option<Response> {
        let sizes = headers.iter().map(|(_, value)| value.len());
        if sizes.sum::<usize>() + path.len() + body.len() > MAX_REQUEST {
            return None;
        }
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        if !headers.iter().any(|(name, _)| name == HOST) {
            request = request.header(HOST, "localhost");
        }
        let request = request.body(Full::from(body.to_vec())).ok()?;
        Some(self.runtime.block_on(self.send(request)))
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Response {
        let mut kept = self.connection.borrow_mut().take();
        if let Some(connection) = &mut kept
            && connection.ready().await.is_err()
        {
            kept = None;
        }
        let mut connection = match kept {
            Some(kept) => kept,
            None => self.connect().await,
        };
        let response = if let Ok(response) = connection.send_request(request.clone()).await {
            response
        } else {
            // The server closed it after the previous response.
            connection = self.connect().await;
            connection.send_request(request).await.unwrap()
        };
        let (head, body) = response.into_parts();
        let content_type = head.headers.get(CONTENT_TYPE);
        let content_type = content_type.map_or("", |value| value.to_str().unwrap());
        let response = Response {
            status: head.status,
            content_type: content_type.to_owned(),
            body: body.collect().await.unwrap().to_bytes(),
        };
        *self.connection.borrow_mut() = Some(connection);
        response
    }

    async fn connect(&self) -> SendRequest<Full<Bytes>> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.token)
    }
}

impl Response {
    /// Checks that the status is one of these, and that an error is a problem document, unless
    /// hyper sent it.
    fn assert_status_in(&self, statuses: &[u16]) {
        if !self.status.is_success() && !self.body.is_empty() {
            let problem: Value = serde_json::from_slice(&self.body).unwrap();
            assert_eq!(self.content_type, "application/problem+json");
            assert_eq!(problem["status"], self.status.as_u16());
        }
        assert!(statuses.contains(&self.status.as_u16()), "{}", self.status);
    }
}

/// The query of `GET /admin/logs`, and `Accept` in a second line. `CURSOR` stands for one of this
/// log.
pub fn log_query(bytes: &[u8]) {
    let (query, accept) = split_first_line(bytes);
    SERVER.with(|server| {
        let query = String::from_utf8_lossy(query).replace("CURSOR", &server.newest.to_string());
        let bearer = server.bearer();
        let headers = [(AUTHORIZATION, bearer.as_bytes()), (ACCEPT, accept)];
        let path = format!("/admin/logs?{query}");
        let Some(response) = server.request(&Method::GET, &path, &headers, b"") else {
            return;
        };
        response.assert_status_in(&[200, 400, 404, 414, 431]);
        if response.status == StatusCode::OK && response.content_type == "application/json" {
            let page: LogPage = serde_json::from_slice(&response.body).unwrap();
            page.next_cursor.parse::<Cursor>().unwrap();
        }
    });
}

/// `Last-Event-ID` of `GET /admin/logs/stream`, and its query in a second line. The method is HEAD,
/// because the stream has no end.
pub fn log_stream_resume(bytes: &[u8]) {
    let (id, query) = split_first_line(bytes);
    SERVER.with(|server| {
        let cursor = server.newest.to_string();
        let put = |text| String::from_utf8_lossy(text).replace("CURSOR", &cursor);
        let (id, query) = (put(id), put(query));
        let bearer = server.bearer();
        let last_event_id = HeaderName::from_static("last-event-id");
        let headers = [
            (AUTHORIZATION, bearer.as_bytes()),
            (last_event_id, id.as_bytes()),
        ];
        let path = format!("/admin/logs/stream?{query}&{LINES}");
        let Some(response) = server.request(&Method::HEAD, &path, &headers, b"") else {
            return;
        };
        response.assert_status_in(&[200, 400, 414, 431]);
        if response.status == StatusCode::OK {
            let id = id.trim_matches([' ', '\t']);
            assert!(id.is_empty() || id.parse::<Cursor>().is_ok());
        }
    });
}

/// `Host`, `Origin` and `Sec-Fetch-Site`, one a line.
pub fn origin_check(bytes: &[u8]) {
    let mut lines = bytes.splitn(3, |byte| *byte == b'\n');
    let host = lines.next().unwrap_or_default();
    let (origin, site) = (lines.next(), lines.next());
    let mut headers = vec![(HOST, host)];
    headers.extend(origin.map(|origin| (ORIGIN, origin)));
    let name = HeaderName::from_static("sec-fetch-site");
    headers.extend(site.map(|site| (name, site)));
    SERVER.with(|server| {
        let Some(response) = server.request(&Method::GET, "/admin/status", &headers, b"") else {
            return;
        };
        response.assert_status_in(&[400, 401, 403, 431]);
        if response.status != StatusCode::UNAUTHORIZED {
            return;
        }
        let host = std::str::from_utf8(host).unwrap().trim_matches([' ', '\t']);
        // As a browser parses it.
        if let Ok(url) = Url::parse(&format!("http://{host}/")) {
            let name = url.host_str().unwrap();
            assert!(
                ["localhost", "127.0.0.1", "[::1]"].contains(&name),
                "{name}"
            );
        }
        if let Some(origin) = origin {
            let origin = std::str::from_utf8(origin)
                .unwrap()
                .trim_matches([' ', '\t']);
            assert_eq!(origin, format!("http://{host}"));
        }
    });
}

/// Lines of `X-Forwarded-For`, after an empty line of `Forwarded`, that a client has sent. A trusted
/// proxy at 10.1.1.1 appends the address of the client, 192.0.2.1, to the last line or in another.
pub fn forwarded(bytes: &[u8]) {
    let trusted = TRUSTED.with(Clone::clone);
    let mut lines: Vec<_> = bytes.split(|byte| *byte == b'\n').collect();
    let standard = lines.iter().position(|line| line.is_empty());
    let standard = standard.map(|at| lines.split_off(at)).unwrap_or_default();
    let kinds = [
        ("x-forwarded-for", lines, "192.0.2.1", "10.1.1.1"),
        (
            "forwarded",
            standard,
            "for=192.0.2.1",
            "for=10.1.1.1;proto=https",
        ),
    ];
    let client = |name, lines: &[Vec<u8>]| {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(
                HeaderName::from_static(name),
                HeaderValue::from_bytes(line).ok()?,
            );
        }
        Some(forwarded_hops(&headers, &trusted).into_iter().next())
    };
    for (name, lines, appended, second_proxy) in kinds {
        let lines: Vec<Vec<u8>> = lines.into_iter().map(<[u8]>::to_vec).collect();
        if let Some(Some(found)) = client(name, &lines) {
            assert_eq!(found, found.to_canonical());
        }
        let in_own_line = [&lines[..], &[appended.into()]].concat();
        let mut in_last_line = lines;
        match in_last_line.last_mut() {
            Some(last) => last.extend(format!(", {appended}").bytes()),
            None => in_last_line.push(appended.into()),
        }
        for mut lines in [in_own_line, in_last_line] {
            for proxies in 0..3 {
                // Nothing that the client has sent changes what the proxies say.
                let Some(found) = client(name, &lines) else {
                    break;
                };
                assert_eq!(found, Some(CLIENT), "{proxies}");
                let last = lines.last_mut().unwrap();
                last.extend(format!(" ,{second_proxy}").bytes());
            }
        }
    }
}

/// `Authorization`, `Cookie` and `X-Fullon-Session`, one a line. `TOKEN`, `SESSION` and `VALUE`
/// stand for a valid token, cookie and session value, `PORT` for the port in the cookie's name.
pub fn credentials(bytes: &[u8]) {
    let (authorization, rest) = split_first_line(bytes);
    let (cookie, session) = split_first_line(rest);
    SERVER.with(|server| {
        let port = server.address.port().to_string();
        let put = |text| {
            String::from_utf8_lossy(text)
                .replace("TOKEN", &server.token)
                .replace("SESSION", &server.session.cookie)
                .replace("VALUE", &server.session.session)
                .replace("PORT", &port)
        };
        let (authorization, cookie, session) = (put(authorization), put(cookie), put(session));
        let mut headers = Vec::new();
        if !authorization.is_empty() {
            headers.push((AUTHORIZATION, authorization.as_bytes()));
        }
        if !cookie.is_empty() {
            headers.push((COOKIE, cookie.as_bytes()));
        }
        if !session.is_empty() {
            let name = HeaderName::from_static("x-fullon-session");
            headers.push((name, session.as_bytes()));
        }
        let Some(response) = server.request(&Method::GET, "/admin/status", &headers, b"") else {
            return;
        };
        response.assert_status_in(&[200, 401, 429, 431]);
        // A header with other characters is rejected as a whole.
        let is_text = |text: &str| text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t'));
        let is_valid = if headers.iter().any(|(name, _)| name == AUTHORIZATION) {
            let scheme = authorization
                .trim_start_matches([' ', '\t'])
                .split_once(' ');
            is_text(&authorization)
                && scheme.is_some_and(|(scheme, token)| {
                    let token = token.trim_start_matches(' ').trim_end_matches([' ', '\t']);
                    scheme.eq_ignore_ascii_case("bearer") && token == server.token
                })
        } else {
            let pair = format!("fullon-session-{port}={}", server.session.cookie);
            let blanks = [' ', '\t'];
            session.trim_matches(blanks) == server.session.session
                && cookie
                    .split(';')
                    .any(|cookie| cookie.trim_matches(blanks) == pair)
        };
        assert_eq!(response.status == StatusCode::OK, is_valid);
    });
}

/// The content type of `PUT /admin/log-level` in a line, and its body.
pub fn log_level_body(bytes: &[u8]) {
    let (content_type, body) = split_first_line(bytes);
    SERVER.with(|server| {
        let bearer = server.bearer();
        let headers = [
            (AUTHORIZATION, bearer.as_bytes()),
            (CONTENT_TYPE, content_type),
        ];
        let Some(response) = server.request(&Method::PUT, "/admin/log-level", &headers, body)
        else {
            return;
        };
        response.assert_status_in(&[200, 400, 413, 415, 431]);
        if response.status != StatusCode::OK {
            return;
        }
        let requested: LogLevelRequest = serde_json::from_slice(body).unwrap();
        let now: LogLevelStatus = serde_json::from_slice(&response.body).unwrap();
        // The active level is valid as a request, and does not hide the audit trail.
        assert_eq!(parse_log_filter(&now.level).as_ref(), Ok(&now.level));
        assert_eq!(parse_log_filter(&requested.level).as_ref(), Ok(&now.level));
        assert!(!names_audit(&now.level), "{}", now.level);
        let remaining = now.revert_after_seconds;
        assert!(remaining.is_none_or(|remaining| (0.0..=MAX_REVERT_SECONDS).contains(&remaining)));
        let is_temporary = requested.revert_after_seconds.is_some();
        assert_eq!(remaining.is_some(), is_temporary);
    });
}

/// The path and the content type of a control request, one a line, and its body.
pub fn control_request_body(bytes: &[u8]) {
    let (operation, rest) = split_first_line(bytes);
    let (content_type, body) = split_first_line(rest);
    let operation = if operation == b"restart" {
        "restart"
    } else {
        "stop"
    };
    SERVER.with(|server| {
        let bearer = server.bearer();
        let headers = [
            (AUTHORIZATION, bearer.as_bytes()),
            (CONTENT_TYPE, content_type),
        ];
        let path = format!("/admin/{operation}");
        let Some(response) = server.request(&Method::POST, &path, &headers, body) else {
            return;
        };
        // No task receives the requests: 202 for a stop, 409 for a restart.
        response.assert_status_in(&[202, 400, 409, 413, 415, 431]);
        if [202, 409].contains(&response.status.as_u16()) && !body.is_empty() {
            let body: BTreeMap<String, Value> = serde_json::from_slice(body).unwrap();
            let timeout = body.get("timeout_seconds").and_then(Value::as_f64);
            assert!(timeout.is_none_or(|timeout| (0.0..=3600.0).contains(&timeout)));
        }
    });
}

//! Foreign pages in a real browser that is signed in. They can neither change nor read anything.

use fullon_master_api::api::CONSOLE_PATH;
use serde_json::{Value, json};

use crate::support::{
    Browser, Home, OtherServer, SESSION_HEADERS, SIGN_IN_SCRIPT, browser_available, eventually,
    request,
};

const ATTEMPTS_SCRIPT: &str = include_str!("cross_origin.js");
/// How many requests reach each of [`READS`] and [`CHANGES`], because the browser sends them
/// without a preflight.
const GETS_WITHOUT_PREFLIGHT: usize = 12;
const POSTS_WITHOUT_PREFLIGHT: usize = 16;
const READS: [&str; 4] = [
    "/admin/status",
    "/admin/config",
    "/admin/logs",
    "/admin/logs/stream",
];
const CHANGES: [&str; 4] = [
    "/admin/stop",
    "/admin/restart",
    "/admin/reload",
    "/admin/session",
];
/// All results that a page may see. `opaque` is a response that it cannot read, `true` a beacon
/// that was sent.
const ALLOWED_RESULTS: [&str; 8] = [
    "0",
    "SecurityError",
    "TypeError",
    "closed",
    "closed for good",
    "error",
    "opaque",
    "true",
];
/// The browser resolves this name to this machine.
const FOREIGN_HOST: &str = "evil.example";
const SCOPES: &str = "admin:read admin:logs admin:control";

/// A daemon, and a browser that has a cookie for both names of this machine.
struct SignedInBrowser {
    home: Home,
    browser: Browser,
    port: String,
    token: String,
    identity: (u32, String, Value),
    accepted_changes: usize,
}

impl SignedInBrowser {
    fn new() -> Self {
        let home = Home::started();
        let browser = Browser::with_arguments(
            &home,
            &[&format!(
                "--host-resolver-rules=MAP {FOREIGN_HOST} 127.0.0.1"
            )],
        );
        let port = home.admin_address().rsplit(':').next().unwrap().to_owned();
        let token = home.token(SCOPES);
        browser.open(&format!("http://127.0.0.1:{port}/admin/docs"));
        assert_eq!(browser.run(SIGN_IN_SCRIPT, &[json!(token)]), 201);
        // No page can sign in as `localhost`, because it is redirected.
        for cookie in browser.cookies() {
            let cookie = json!({
                "name": cookie.name, "value": cookie.value, "url": format!("http://localhost:{port}/"),
                "httpOnly": true, "sameSite": "Strict",
            });
            assert_eq!(
                browser.command("Network.setCookie", cookie)["success"],
                true
            );
        }
        eventually("the page has loaded all files", || {
            home.log()
                .contains("path=\"/admin/openapi.json\" status=200")
        });
        Self {
            identity: daemon_identity(&home),
            accepted_changes: count_accepted_changes(&home),
            home,
            browser,
            port,
            token,
        }
    }

    fn admin(&self, host: &str) -> String {
        format!("http://{host}:{}", self.port)
    }

    /// Number of logged requests, once all responses are logged.
    fn request_count(&self) -> usize {
        let name = uuid::Uuid::new_v4().to_string();
        self.home.log_request(&name);
        eventually("the line is logged", || self.home.log().contains(&name));
        logged_requests(&self.home).len()
    }

    /// The daemon was not restarted and accepted no change, and the browser is still signed in.
    #[track_caller]
    fn assert_unchanged(&self) {
        assert_eq!(daemon_identity(&self.home), self.identity);
        assert_eq!(count_accepted_changes(&self.home), self.accepted_changes);
        let page = format!("{}/admin/docs", self.admin("127.0.0.1"));
        self.browser.open(&page);
        let status = format!(
            "return fetch('/admin/status', {{ headers: {SESSION_HEADERS} }}).then(answer => answer.status)"
        );
        assert_eq!(self.browser.run(&status, &[]), 200);
    }
}

/// PID, instance and generation, which change only by request.
fn daemon_identity(home: &Home) -> (u32, String, Value) {
    let status = home.call_admin("GET", "/admin/status").json();
    let state = home.state();
    (state.pid, state.instance, status["generation"].clone())
}

/// Number of accepted changes.
fn count_accepted_changes(home: &Home) -> usize {
    let is_order = |line: &&str| line.contains(" audit: ") && line.contains("outcome=\"accepted\"");
    home.log().lines().filter(is_order).count()
}

/// A request in the access log.
#[derive(Debug)]
struct LoggedRequest {
    method: String,
    path: String,
    status: u16,
}

/// All requests to the admin API.
fn logged_requests(home: &Home) -> Vec<LoggedRequest> {
    let field = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!(" {name}=")).unwrap();
        let (value, _) = rest.split_once(' ').unwrap();
        value.trim_matches('"').to_owned()
    };
    let log = home.log();
    let lines = log
        .lines()
        .filter(|line| line.contains(" access: server=\"admin\""));
    lines
        .map(|line| LoggedRequest {
            method: field(line, "method"),
            path: field(line, "path"),
            status: field(line, "status").parse().unwrap(),
        })
        .collect()
}

#[test]
fn foreign_pages_read_and_change_nothing() {
    if !browser_available("pages of other sites") {
        return;
    }
    let scene = SignedInBrowser::new();
    let other_server = OtherServer::start();
    for from in ["127.0.0.1", "localhost", FOREIGN_HOST] {
        for to in ["127.0.0.1", "localhost", FOREIGN_HOST] {
            let page = format!("http://{from}:{}", other_server.port());
            let before = scene.request_count();
            scene.browser.open(&page);
            let arguments = [
                json!(scene.admin(to)),
                json!(scene.token),
                json!(format!("{page}/redirect?")),
            ];
            let results = scene.browser.run(ATTEMPTS_SCRIPT, &arguments);
            let results = results.as_object().unwrap();
            assert!(results.len() > 100, "{results:#?}");
            for (attempt, result) in results {
                let result = result.as_str().unwrap();
                assert!(
                    ALLOWED_RESULTS.contains(&result),
                    "{from} to {to}, {attempt}: {result}"
                );
            }
            // The browser waits for some responses, but the page does not.
            eventually("all requests without preflight arrive", || {
                let requests = &logged_requests(&scene.home)[before..];
                let count = |method: &str, path: &str| {
                    let is_one =
                        |logged: &&LoggedRequest| logged.method == method && logged.path == path;
                    requests.iter().filter(is_one).count()
                };
                READS
                    .iter()
                    .all(|path| count("GET", path) >= GETS_WITHOUT_PREFLIGHT)
                    && CHANGES
                        .iter()
                        .all(|path| count("POST", path) >= POSTS_WITHOUT_PREFLIGHT)
            });
            for logged in &logged_requests(&scene.home)[before..] {
                let is_refused = matches!(logged.status, 401 | 403);
                // The browser requests the icon by itself.
                let is_icon = logged.path == "/favicon.ico" && logged.status == 404;
                // A window that a page opens is redirected, and then refused.
                let is_redirected =
                    to == "localhost" && logged.method == "GET" && logged.status == 307;
                assert!(
                    is_refused || is_icon || is_redirected,
                    "{from} to {to}: {logged:?}"
                );
            }
        }
    }
    scene.assert_unchanged();
}

/// Every kind of request that a page can send to its own origin. Resolves to the responses, by
/// name.
const OWN_ORIGIN_SCRIPT: &str = "
    const [token] = arguments;
    const bearer = { Authorization: 'Bearer ' + token };
    const answers = {};
    const ask = async (name, path, options) => {
        const answer = await fetch(path, { credentials: 'include', ...options });
        answers[name + ' ' + path] = [answer.status, await answer.text()];
    };
    const xhr = (method, path) => new Promise(resolve => {
        const request = new XMLHttpRequest();
        request.open(method, path);
        request.onloadend = () => resolve(answers['XHR ' + path] = [request.status, request.responseText]);
        request.send();
    });
    const form = path => new Promise(resolve => {
        const frame = document.createElement('iframe');
        frame.name = 'frame' + path;
        document.body.append(frame);
        const form = document.createElement('form');
        Object.assign(form, { action: path, method: 'post', target: frame.name });
        document.body.append(form);
        // A response that may not be framed is replaced by an error page, which nobody can read.
        frame.onload = () => {
            const shown = frame.contentDocument;
            if (shown) answers['form ' + path] = [200, shown.body.innerText];
            resolve();
        };
        form.submit();
    });
    const source = path => new Promise(resolve => {
        const source = new EventSource(path);
        source.onopen = () => resolve(answers['EventSource ' + path] = [200, 'open']);
        source.onerror = () => source.readyState === EventSource.CLOSED && resolve();
    });
    const all = [source('/admin/logs/stream')];
    for (const path of ['/admin/status', '/admin/config', '/admin/logs', '/admin/logs/stream', '/admin/openapi.json',
            '/admin/docs', '/', '/nothing']) {
        all.push(ask('GET', path), ask('GET with token', path, { headers: bearer }), xhr('GET', path));
    }
    for (const path of ['/admin/stop', '/admin/restart', '/admin/reload', '/admin/session']) {
        all.push(ask('POST', path, { method: 'POST' }), ask('DELETE', path, { method: 'DELETE' }));
        all.push(ask('POST with token', path, { method: 'POST', headers: bearer }), xhr('POST', path), form(path));
    }
    return Promise.all(all).then(() => answers);
";

#[test]
fn dns_rebinding_is_refused() {
    if !browser_available("a name that means another machine") {
        return;
    }
    let scene = SignedInBrowser::new();
    let other_server = OtherServer::start();
    scene
        .browser
        .open(&format!("http://{FOREIGN_HOST}:{}", other_server.port()));
    other_server.relay_to(&scene.home.admin_address());
    let answers = scene.browser.run(OWN_ORIGIN_SCRIPT, &[json!(scene.token)]);
    let answers = answers.as_object().unwrap();
    assert!(answers.len() > 35, "{answers:#?}");
    for (name, answer) in answers {
        let text = answer[1].as_str().unwrap();
        let problem: Value =
            serde_json::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}: {text}"));
        let detail = problem["detail"].as_str().unwrap();
        assert_eq!(answer[0], 403, "{name}: {problem}");
        assert!(detail.contains("Host"), "{name}: {problem}");
    }
    // The same page has access if the name is one of ours.
    let opened = format!("http://127.0.0.1:{}/admin/docs", other_server.port());
    scene.browser.open(&opened);
    let status = "return fetch('/admin/openapi.json').then(answer => answer.status)";
    assert_eq!(scene.browser.run(status, &[]), 200);
    scene.assert_unchanged();
}

/// Clickjacking: a foreign page must not frame ours.
#[test]
fn pages_cannot_be_framed() {
    if !browser_available("frames of other sites") {
        return;
    }
    let scene = SignedInBrowser::new();
    let other_server = OtherServer::start();
    let frame = "
        const frame = document.createElement('iframe');
        frame.src = arguments[0];
        const loaded = new Promise(resolve => frame.onload = resolve);
        document.body.append(frame);
        return loaded.then(() => true);
    ";
    for from in ["127.0.0.1", "localhost", FOREIGN_HOST] {
        for page in ["/admin/docs", CONSOLE_PATH] {
            scene
                .browser
                .open(&format!("http://{from}:{}", other_server.port()));
            let url = format!("{}{page}", scene.admin("127.0.0.1"));
            assert_eq!(scene.browser.run(frame, &[json!(url)]), true);
            let shown = scene.browser.run_in_frame("return location.href");
            assert_ne!(shown, url, "framed by a page of {from}");
        }
    }
    scene.assert_unchanged();
}

#[test]
fn no_response_affects_other_origins() {
    let home = Home::started();
    let bearer = home.bearer();
    let operations = [
        ("GET", "/admin/status"),
        ("GET", "/admin/logs?lines=1"),
        ("GET", "/admin/openapi.json"),
        ("GET", "/admin/docs"),
        ("POST", "/admin/reload"),
        ("POST", "/admin/session"),
        ("GET", "/nothing"),
    ];
    let public = ["/", "/health", "/health/ready", "/docs", "/openapi.json"];
    let (admin, public_host) = (home.admin_address(), home.public_address());
    let own_origin = format!("http://{admin}");
    let mut request_count = 0;
    let mut ask = |host: &str, method: &str, path: &str, headers: &[(&str, &str)]| {
        let answer = request(host, method, path, headers, "");
        let is_open = |name: &str| {
            let name = name.to_ascii_lowercase();
            // `Clear-Site-Data` would clear cookies of all ports.
            let others = ["timing-allow-origin", "clear-site-data"];
            name.starts_with("access-control-") || others.contains(&name.as_str())
        };
        let found = answer.headers.iter().find(|(name, _)| is_open(name));
        assert_eq!(found, None, "{method} {path}: {answer:#?}");
        request_count += 1;
        answer.status
    };
    for origin in [
        None,
        Some("null"),
        Some("http://evil.example"),
        Some(&own_origin),
    ] {
        let is_foreign = origin.is_some_and(|origin| origin != own_origin);
        let origin: Vec<_> = origin
            .map(|origin| ("Origin", origin))
            .into_iter()
            .collect();
        for (method, path) in operations {
            let with = |more: &[(&'static str, &'static str)]| {
                let bearer = ("Authorization", bearer.as_str());
                let mut headers = origin.clone();
                headers.extend(more.iter().copied().chain([bearer]));
                headers
            };
            let status = ask(&admin, method, path, &with(&[]));
            assert_eq!(status == 403, is_foreign, "{method} {path}");
            let preflight = [
                ("Access-Control-Request-Method", method),
                ("Access-Control-Request-Headers", "authorization"),
                ("Access-Control-Request-Private-Network", "true"),
            ];
            let status = ask(&admin, "OPTIONS", path, &with(&preflight));
            let expected = match (is_foreign, path) {
                (true, _) => 403,
                (false, "/nothing") => 404,
                (false, _) => 405,
            };
            assert_eq!(status, expected, "preflight of {method} {path}");
        }
        for path in public {
            ask(&public_host, "GET", path, &origin);
            let mut preflight = origin.clone();
            preflight.push(("Access-Control-Request-Method", "GET"));
            assert_eq!(ask(&public_host, "OPTIONS", path, &preflight), 405);
        }
    }
    assert_eq!(request_count, 4 * 2 * (operations.len() + public.len()));
}

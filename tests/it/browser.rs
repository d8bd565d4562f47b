//! `EventSource`, cookies and content policy in a real browser.

use serde_json::{Value, json};
use thirtyfour::cookie::SameSite;

use crate::support::{
    Browser, DEADLINE, Home, NumberedRequests, OtherServer, SESSION_HEADERS, SIGN_IN_SCRIPT,
    browser_available, eventually, free_port, is_numbered_request, request, request_numbers,
};

const FOLLOW_SCRIPT: &str = "
    const seen = window.seen = { opens: 0, gaps: 0, ends: 0, ids: [], lines: [] };
    const { ticket } = JSON.parse(sessionStorage['fullon-session']);
    const source = window.source = new EventSource('/admin/logs/stream?lines=0&ticket=' + ticket);
    source.addEventListener('open', () => seen.opens++);
    source.addEventListener('gap', () => seen.gaps++);
    source.addEventListener('end', () => seen.ends++);
    source.addEventListener('log', event => {
        seen.ids.push(event.lastEventId);
        seen.lines.push(JSON.parse(event.data).line);
    });
";

/// A home whose daemon keeps its ports across restarts.
fn home_with_ports() -> Home {
    let mut home = Home::new();
    home.set("PORT", &free_port().to_string());
    home.set("ADMIN_PORT", &free_port().to_string());
    home.run(["start"]).succeeds();
    home
}

/// Opens a page of the admin API that needs no token.
fn open_admin_page(browser: &Browser, home: &Home) {
    browser.open(&format!("http://{}/admin/docs", home.admin_address()));
}

fn strings(values: &Value) -> Vec<&str> {
    let values = values.as_array().unwrap();
    values.iter().map(|value| value.as_str().unwrap()).collect()
}

#[track_caller]
fn assert_cursors_unique(seen: &Value) {
    let mut ids = strings(&seen["ids"]);
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), strings(&seen["lines"]).len());
}

/// Waits until the page follows again, and returns how often it has connected. It may first
/// reconnect to the old process over a kept connection.
fn wait_for_reconnect(browser: &Browser, before: u64) -> u64 {
    let open = || browser.run("return source.readyState == 1 ? seen.opens : 0", &[]);
    eventually("the page follows", || open().as_u64() > Some(before));
    open().as_u64().unwrap()
}

#[test]
fn event_source_loses_nothing_across_restarts_and_kill() {
    if !browser_available("an EventSource across restarts") {
        return;
    }
    let home = home_with_ports();
    let browser = Browser::new(&home);
    open_admin_page(&browser, &home);
    let token = home.token("admin:logs");
    assert_eq!(browser.run(SIGN_IN_SCRIPT, &[json!(token)]), 201);
    browser.run(FOLLOW_SCRIPT, &[]);
    // Waits for marks of the current process, not only for history.
    let sees_new_marks = || {
        let marks = || {
            home.log()
                .lines()
                .filter(|line| is_numbered_request(line))
                .count()
        };
        let (known, before) = (marks(), browser.run("return seen.lines.length", &[]));
        eventually("marks are logged", || marks() > known);
        eventually("marks arrive", || {
            browser.run("return seen.lines.length", &[]).as_u64() > before.as_u64()
        });
    };
    let opens = wait_for_reconnect(&browser, 0);
    let requests = NumberedRequests::start(home.public_address());
    sees_new_marks();

    home.run(["restart"]).succeeds();
    let opens = wait_for_reconnect(&browser, opens);
    sees_new_marks();

    let killed_daemon = home.daemon().unwrap();
    killed_daemon.kill().unwrap();
    assert!(killed_daemon.wait_for_exit(DEADLINE));
    home.run(["start"]).succeeds();
    let opens = wait_for_reconnect(&browser, opens);
    sees_new_marks();

    home.run(["restart"]).succeeds();
    wait_for_reconnect(&browser, opens);
    sees_new_marks();

    let sent = requests.finish();
    request(
        &home.public_address(),
        "GET",
        "/",
        &[("X-Request-Id", "the-last")],
        "",
    );
    eventually("the last line arrives", || {
        let last = "return seen.lines.some(line => line.includes('the-last'))";
        browser.run(last, &[]) == true
    });
    let seen = browser.run("source.close(); return seen", &[]);
    let log = home.log();
    let expected: Vec<_> = log
        .lines()
        .filter(|line| is_numbered_request(line))
        .collect();
    let arrived: Vec<_> = strings(&seen["lines"])
        .into_iter()
        .filter(|line| is_numbered_request(line))
        .collect();
    let first_difference = expected.iter().zip(&arrived).position(|(a, b)| a != b);
    let difference = first_difference.map(|at| (&expected[at], &arrived[at]));
    assert_eq!((first_difference, difference), (None, None));
    assert_eq!(arrived.len(), expected.len());
    assert!(
        (100..=sent).contains(&expected.len()),
        "{} of {sent} marks",
        expected.len()
    );
    assert_cursors_unique(&seen);
    assert_eq!(seen["gaps"], 0);
    // A killed daemon sends no `end` event. A page may also have been moving from the old process
    // to the killed one at that moment, which makes two.
    let (opens, ends) = (&seen["opens"], &seen["ends"]);
    let without_end = opens.as_u64().unwrap() - ends.as_u64().unwrap();
    assert!(
        (1..=2).contains(&without_end),
        "{opens} streams opened, {ends} ended"
    );
}

#[test]
fn event_source_loses_nothing_across_repeated_restarts() {
    if !browser_available("an EventSource across handovers") {
        return;
    }
    let home = Home::started();
    let browser = Browser::new(&home);
    open_admin_page(&browser, &home);
    let token = home.token("admin:logs");
    assert_eq!(browser.run(SIGN_IN_SCRIPT, &[json!(token)]), 201);
    browser.run(FOLLOW_SCRIPT, &[]);
    let mut opens = wait_for_reconnect(&browser, 0);
    let requests = NumberedRequests::start(home.public_address());
    for _ in 0..4 {
        home.restart();
        opens = wait_for_reconnect(&browser, opens);
    }
    let sent = requests.finish();
    home.log_request("the-last");
    eventually("the last line arrives", || {
        let last = "return seen.lines.some(line => line.includes('the-last'))";
        browser.run(last, &[]) == true
    });
    let seen = browser.run("source.close(); return seen", &[]);
    let expected: Vec<usize> = (1..=sent).collect();
    assert_eq!(
        request_numbers(strings(&seen["lines"]).into_iter()),
        expected
    );
    assert_cursors_unique(&seen);
    assert_eq!(seen["gaps"], 0);
    assert_eq!(
        seen["opens"].as_u64().unwrap(),
        seen["ends"].as_u64().unwrap() + 1
    );
}

#[test]
fn page_signs_in_and_out() {
    if !browser_available("signing in and out") {
        return;
    }
    let home = Home::started();
    let browser = Browser::new(&home);
    open_admin_page(&browser, &home);
    let status = || {
        let script = format!(
            "return fetch('/admin/status', {{ headers: {SESSION_HEADERS} }}).then(answer => answer.status)"
        );
        browser.run(&script, &[])
    };
    assert_eq!(status(), 401);
    let token = home.token("admin:read");
    assert_eq!(browser.run(SIGN_IN_SCRIPT, &[json!(token)]), 201);
    assert_eq!(status(), 200);
    let cookies = browser.cookies();
    assert_eq!(cookies.len(), 1, "{cookies:?}");
    assert_eq!(
        (cookies[0].http_only, &cookies[0].same_site),
        (Some(true), &Some(SameSite::Strict))
    );
    assert_eq!(browser.run("return document.cookie", &[]), "");
    // The browser adds the `Origin` that a change needs.
    let sign_out = format!(
        "return fetch('/admin/session', {{ method: 'DELETE', headers: {SESSION_HEADERS} }}).then(answer => answer.status)"
    );
    assert_eq!(browser.run(&sign_out, &[]), 204);
    assert_eq!(browser.cookies().len(), 0);
    assert_eq!(status(), 401);
}

#[test]
fn page_on_another_port_is_refused_despite_cookie() {
    if !browser_available("a page of another origin") {
        return;
    }
    let home = Home::started();
    let browser = Browser::new(&home);
    open_admin_page(&browser, &home);
    let token = home.token("admin:read admin:logs admin:control");
    assert_eq!(browser.run(SIGN_IN_SCRIPT, &[json!(token)]), 201);

    let other_server = OtherServer::start();
    browser.open(&format!("http://127.0.0.1:{}/", other_server.port()));
    let head = other_server.requests.recv_timeout(DEADLINE).unwrap();
    let (_, rest) = head.split_once("Cookie: ").unwrap();
    let cookie = rest.lines().next().unwrap();
    assert!(cookie.starts_with("fullon-session-"), "{head}");

    // The neighbour replays the cookie as a program, which forges all other headers.
    let admin = format!("http://{}", home.admin_address());
    for (method, path) in [
        ("GET", "/admin/status"),
        ("GET", "/admin/logs"),
        ("GET", "/admin/logs/stream"),
        ("GET", "/admin/session"),
        ("DELETE", "/admin/session"),
        ("POST", "/admin/stop"),
    ] {
        let headers = [
            ("Cookie", cookie),
            ("Origin", &admin),
            ("Sec-Fetch-Site", "same-origin"),
        ];
        let answer = request(&home.admin_address(), method, path, &headers, "");
        assert_eq!(answer.status, 401, "{method} {path}: {answer:#?}");
    }
    let follow = "
        const seen = window.seen = { opens: 0, errors: 0, messages: 0 };
        const url = arguments[0] + '/admin/logs/stream?lines=50';
        const source = window.source = new EventSource(url, { withCredentials: true });
        source.onopen = () => seen.opens++;
        source.onerror = () => seen.errors++;
        for (const name of ['log', 'gap', 'end', 'message']) {
            source.addEventListener(name, () => seen.messages++);
        }
    ";
    browser.run(follow, &[json!(admin)]);
    let is_closed = "return source.readyState === EventSource.CLOSED";
    eventually("the stream is refused for good", || {
        browser.run(is_closed, &[]) == true
    });
    assert_eq!(
        browser.run("return seen", &[]),
        json!({ "opens": 0, "errors": 1, "messages": 0 })
    );

    // The browser sends these without a preflight. It hides the responses from the page, but not
    // their effects.
    let no_cors_fetch = "
        const [url, method] = arguments;
        const options = { method, mode: 'no-cors', credentials: 'include' };
        return fetch(url, options).then(answer => answer.type, error => error.message);
    ";
    for (method, path) in [("GET", "/admin/status"), ("POST", "/admin/stop")] {
        let url = format!("{admin}{path}");
        // `Cross-Origin-Resource-Policy` hides even that there was a response.
        assert_eq!(
            browser.run(no_cors_fetch, &[json!(url), json!(method)]),
            "Failed to fetch"
        );
    }
    eventually("all requests are refused", || {
        let log = home.log();
        ["/admin/logs/stream", "/admin/status", "/admin/stop"]
            .iter()
            .all(|path| log.contains(&format!("path=\"{path}\" status=403")))
    });
    home.run(["status"]).succeeds();
}

/// Another program on the port of a killed daemon has its origin: an open page sends it everything.
#[test]
fn squatter_on_the_port_gets_nothing_but_the_log() {
    if !browser_available("another program on the port of the daemon") {
        return;
    }
    let home = home_with_ports();
    let (host, browser) = (home.admin_address(), Browser::new(&home));
    open_admin_page(&browser, &home);
    let token = home.token("admin:read admin:logs admin:control");
    assert_eq!(browser.run(SIGN_IN_SCRIPT, &[json!(token)]), 201);
    browser.run(FOLLOW_SCRIPT, &[]);
    wait_for_reconnect(&browser, 0);
    let killed = home.daemon().unwrap();
    killed.kill().unwrap();
    assert!(killed.wait_for_exit(DEADLINE));

    let port = host.rsplit(':').next().unwrap().parse().unwrap();
    let squatter = OtherServer::start_on(port);
    let fetch = format!(
        "return fetch('/admin/status', {{ headers: {SESSION_HEADERS} }}).then(answer => answer.status)"
    );
    // The stream does not resume by itself after a response that is no stream.
    browser.run("source.close(); return 0", &[]);
    assert_eq!(browser.run(&fetch, &[]), 200);
    let stolen = std::iter::from_fn(|| squatter.requests.recv_timeout(DEADLINE).ok());
    let stolen = { stolen }
        .find(|head| head.contains("/admin/status"))
        .unwrap();
    let value = |name: &str| {
        let (_, rest) = stolen.split_once(&format!("\r\n{name}: ")).unwrap();
        rest.lines().next().unwrap().to_owned()
    };
    let (cookie, session) = (value("Cookie"), value("X-Fullon-Session"));
    drop(squatter);
    home.run(["start"]).succeeds();

    let origin = format!("http://{host}");
    for (method, path) in [("GET", "/admin/status"), ("POST", "/admin/stop")] {
        let headers = [
            ("Cookie", cookie.as_str()),
            ("X-Fullon-Session", &session),
            ("Origin", &origin),
        ];
        request(&host, method, path, &headers, "").assert_problem(401, "sign in again");
    }
    // The page has to sign in again, but its log continues.
    browser.open("about:blank");
    open_admin_page(&browser, &home);
    assert_eq!(browser.run(&fetch, &[]), 401);
    browser.run(FOLLOW_SCRIPT, &[]);
    assert_eq!(wait_for_reconnect(&browser, 0), 1);
    home.log_request("after-the-crash");
    eventually("the log continues", || {
        let last = "return seen.lines.some(line => line.includes('after-the-crash'))";
        browser.run(last, &[]) == true
    });
}

/// Collects policy violations and script errors.
const REPORT_SCRIPT: &str = "
    window.reports = [];
    document.addEventListener('securitypolicyviolation', event =>
        reports.push(event.violatedDirective + ' ' + event.blockedURI));
    window.addEventListener('error', event => reports.push(String(event.message)));
";

#[test]
fn documentation_works_without_inline_scripts() {
    if !browser_available("the documentation pages") {
        return;
    }
    let home = Home::started();
    let browser = Browser::new(&home);
    browser.run_before_each_page(REPORT_SCRIPT);
    for (host, path, operation) in [
        (home.public_address(), "/docs", "get_health"),
        (home.admin_address(), "/admin/docs", "get_status"),
    ] {
        browser.open(&format!("http://{host}{path}"));
        let operation_count = "return document.querySelectorAll('.opblock').length";
        eventually("the operations are shown", || {
            browser.run(operation_count, &[]).as_u64() > Some(3)
        });
        // An expanded operation uses every feature of the page.
        let open_operation = format!("
            const summary = document.querySelector('[id$=\"{operation}\"] .opblock-summary-control');
            summary.click();
            return true;
        ");
        browser.run(&open_operation, &[]);
        eventually("the operation is open", || {
            browser.run(
                "return document.querySelectorAll('.opblock.is-open').length",
                &[],
            ) == 1
        });
        assert_eq!(browser.run("return reports", &[]), json!([]), "{path}");
        // Inline scripts do not run.
        let inline_script = "
            const script = document.createElement('script');
            script.textContent = 'window.injected = true';
            document.body.append(script);
            return true;
        ";
        browser.run(inline_script, &[]);
        eventually("the violation is reported", || {
            browser.run("return reports", &[]) == json!(["script-src-elem inline"])
        });
        assert_eq!(
            browser.run("return window.injected === undefined", &[]),
            true
        );
    }
}

/// Runs an operation without parameters in Swagger UI, and resolves to the status of the response.
const TRY_OUT_SCRIPT: &str = "
    const find = async selector => {
        for (;;) {
            const element = document.querySelector(selector);
            if (element) return element;
            await new Promise(resolve => setTimeout(resolve, 20));
        }
    };
    const operation = `[id$=\"${arguments[0]}\"]`;
    (await find(operation + ' .opblock-summary-control')).click();
    (await find(operation + ' .try-out__btn')).click();
    (await find(operation + ' .execute')).click();
    return (await find(operation + ' .live-responses-table tbody .response-col_status')).innerText.trim();
";

/// Runs an operation without parameters in Swagger UI, and returns the status of the response.
pub fn try_out(browser: &Browser, operation: &str) -> Value {
    run_async(browser, TRY_OUT_SCRIPT, &[json!(operation)])
}

fn run_async(browser: &Browser, script: &str, arguments: &[Value]) -> Value {
    let script = format!("return (async function() {{ {script} }})(...arguments)");
    browser.run(&script, arguments)
}

/// Enters the token in the dialog of Swagger UI.
const AUTHORIZE_SCRIPT: &str = "
    document.querySelector('.auth-wrapper .authorize').click();
    await new Promise(resolve => setTimeout(resolve));
    const input = document.querySelector('#auth-bearer-value');
    Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(input, arguments[0]);
    input.dispatchEvent(new Event('input', { bubbles: true }));
    input.closest('form').querySelector('.authorize').click();
    document.querySelector('.dialog-ux .btn-done').click();
    return 0;
";

#[test]
fn documentation_stores_no_token_and_uses_the_session() {
    if !browser_available("the documentation with a token") {
        return;
    }
    let home = Home::started();
    let browser = Browser::new(&home);
    let open = || {
        browser.open("about:blank");
        open_admin_page(&browser, &home);
        eventually("the operations are shown", || {
            browser
                .run("return document.querySelectorAll('.opblock').length", &[])
                .as_u64()
                > Some(3)
        });
    };
    let stored = "
        const databases = await indexedDB.databases();
        const caches = await window.caches.keys();
        return JSON.stringify([localStorage, sessionStorage, document.cookie, databases, caches]);
    ";
    open();
    assert_eq!(try_out(&browser, "get_status"), "401");
    open();
    let token = home.token("admin:read");
    run_async(&browser, AUTHORIZE_SCRIPT, &[json!(token)]);
    assert_eq!(try_out(&browser, "get_status"), "200");
    let expected = json!([{}, {}, "", [], []]);
    let kept = run_async(&browser, stored, &[]);
    assert_eq!(kept.as_str().unwrap(), expected.to_string());
    // The token is gone with the page.
    open();
    assert_eq!(try_out(&browser, "get_status"), "401");

    assert_eq!(browser.run(SIGN_IN_SCRIPT, &[json!(token)]), 201);
    open();
    assert_eq!(try_out(&browser, "get_status"), "200");
    let kept = run_async(&browser, stored, &[]);
    assert!(!kept.as_str().unwrap().contains(&token), "{kept}");
}

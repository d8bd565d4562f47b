//! Another program listened on the port of the daemon, and has left something in the browser.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use fullon_master_api::auth::sign_in_id;
use serde_json::json;

use super::Console;
use crate::support::{
    Connection, Home, OtherServer, Outcome, browser_available, eventually, request,
};

const PAGE: &str = "<!doctype html><title>squatted</title>";
const PAGE_HEAD: &str = "200 OK\r\nContent-Type: text/html";
/// Kept by the browser for a year.
const CACHED: &str = "\r\nCache-Control: max-age=31536000, immutable";
const WORKER: &str = "
    addEventListener('install', () => skipWaiting());
    addEventListener('activate', event => event.waitUntil(clients.claim()));
    addEventListener('fetch', event => {
        const headers = { 'Content-Type': 'text/html' };
        const page = new Response('<!doctype html><title>squatted</title>', { headers });
        if (event.request.mode === 'navigate') event.respondWith(page);
    });
";
const REGISTER: &str = "
    return navigator.serviceWorker.register('/worker.js')
        .then(() => navigator.serviceWorker.ready).then(() => true);
";

/// A program that listens on the admin port of the stopped daemon.
fn squat(console: &Console) -> OtherServer {
    let host = console.home.admin_address();
    console.home.run(["stop"]).succeeds();
    OtherServer::start_on(host.rsplit(':').next().unwrap().parse().unwrap())
}

/// The file that `fullon console --open` gives to the browser.
fn opened_file(home: &Home) -> String {
    let [browser, page] = ["browser-command", "opened.html"].map(|name| home.path().join(name));
    let script = format!(
        "#!/bin/sh\ncp \"$1\" {0}.new && mv {0}.new {0}\n",
        page.display()
    );
    fs::write(&browser, script).unwrap();
    fs::set_permissions(&browser, fs::Permissions::from_mode(0o755)).unwrap();
    let _ = fs::remove_file(&page);
    let mut command = home.fullon(["console", "--open"]);
    command
        .env("BROWSER", &browser)
        .env("XDG_RUNTIME_DIR", home.path());
    Outcome::run(&mut command).succeeds();
    eventually("the browser was started", || page.exists());
    format!("file://{}", page.display())
}

/// The address in an opened file that clears the browser.
fn clear_address(file: &str) -> String {
    let file = fs::read_to_string(file.strip_prefix("file://").unwrap()).unwrap();
    let at = file.find("/console/clear").unwrap();
    let start = file[..at].rfind('"').unwrap() + 1;
    let (address, _) = file[start..].split_once('"').unwrap();
    address.to_owned()
}

fn wait_for_title(console: &Console, part: &str) {
    let title = || console.browser.run("return document.title", &[]);
    eventually(part, || title().as_str().unwrap().contains(part));
}

#[test]
fn opened_console_is_the_real_one_whatever_is_left_in_the_browser() {
    if !browser_available("what another program leaves in the browser") {
        return;
    }
    for left in ["worker", "page", "redirect"] {
        let console = Console::signed_out();
        let address = format!("http://{}/console", console.home.admin_address());
        let elsewhere = OtherServer::start();
        let squatted = format!("http://127.0.0.1:{}/squatted", elsewhere.port());
        elsewhere.answer("/squatted", PAGE_HEAD, PAGE);
        let squatter = squat(&console);
        match left {
            "worker" => {
                let head = "200 OK\r\nContent-Type: text/javascript";
                squatter.answer("/worker.js", head, WORKER);
                squatter.answer("/console", PAGE_HEAD, PAGE);
            }
            "page" => squatter.answer("/console", &format!("{PAGE_HEAD}{CACHED}"), PAGE),
            _ => {
                let head = format!("301 Moved Permanently\r\nLocation: {squatted}{CACHED}");
                squatter.answer("/console", &head, "");
            }
        }
        console.browser.open(&address);
        wait_for_title(&console, "squatted");
        if left == "worker" {
            assert_eq!(console.browser.run(REGISTER, &[]), true);
        }
        console.browser.open("about:blank");
        drop(squatter);
        console.home.run(["start"]).succeeds();

        // The daemon is not asked for this page.
        console.browser.open(&address);
        wait_for_title(&console, "squatted");
        console.browser.open("about:blank");
        console.browser.open(&opened_file(&console.home));
        wait_for_title(&console, "Ready");
        console.browser.open("about:blank");
        console.browser.open(&address);
        wait_for_title(&console, "Ready");
    }
}

/// All pages in local files share one cache. A cached response can be valid for every query.
#[test]
fn response_that_another_program_left_in_the_cache_stops_no_clearing() {
    if !browser_available("a cached response of another program") {
        return;
    }
    let console = Console::signed_out();
    let address = format!("http://{}/console", console.home.admin_address());
    let cleared_by = clear_address(&opened_file(&console.home));
    let (cleared_by, _) = cleared_by.split_once('?').unwrap_or((&cleared_by, ""));
    let squatter = squat(&console);
    let for_each_query = format!("{CACHED}\r\nNo-Vary-Search: params");
    let image = format!("200 OK\r\nContent-Type: image/svg+xml{for_each_query}");
    let page = format!("{PAGE_HEAD}{for_each_query}");
    let (_, clear_path) = cleared_by.split_at(address.len() - "/console".len());
    let empty = "<svg xmlns=\"http://www.w3.org/2000/svg\"/>";
    for path in [clear_path, "/console/clear", "/console/clear/"] {
        squatter.answer(path, &image, empty);
    }
    squatter.answer("/console", &page, PAGE);
    let head = "200 OK\r\nContent-Type: text/javascript";
    squatter.answer("/worker.js", head, WORKER);
    console.browser.open(&address);
    wait_for_title(&console, "squatted");
    assert_eq!(console.browser.run(REGISTER, &[]), true);
    let lure = console.home.path().join("lure.html");
    fs::write(&lure, "<!doctype html><title>lure</title>").unwrap();
    console.browser.open(&format!("file://{}", lure.display()));
    let load = "
        return new Promise(resolve => {
            const image = new Image();
            image.onload = () => resolve('loaded');
            image.onerror = () => resolve('failed');
            image.src = arguments[0];
        });
    ";
    let is_loaded = |address: &str| console.browser.run(load, &[json!(address)]) == "loaded";
    assert!(is_loaded(cleared_by));
    drop(squatter);
    // From the cache, whatever the query is.
    assert!(is_loaded(&format!("{cleared_by}?another")));
    console.browser.open("about:blank");
    console.home.run(["start"]).succeeds();

    let opened = opened_file(&console.home);
    console.browser.open(&opened);
    wait_for_title(&console, "Ready");
    // The image of the file is valid once, so the file opens no page again.
    console.browser.open("about:blank");
    console.browser.open(&opened);
    let text = "return document.body.innerText";
    eventually("the file says that it was used", || {
        let text = console.browser.run(text, &[]);
        text.as_str().unwrap().contains("fullon console --open")
    });
}

/// The same tab or another one has shown its page, which has the origin of the console.
#[test]
fn values_left_in_the_storage_neither_hide_lines_nor_stop_the_page() {
    if !browser_available("values that another program has stored") {
        return;
    }
    let console = Console::signed_in();
    let plant = "
        localStorage['fullon-console'] = arguments[0];
        const values = { id: arguments[0], session: arguments[0], ticket: arguments[0] };
        if (arguments[1]) sessionStorage['fullon-session'] = JSON.stringify(values);
        return 0;
    ";
    let open_again = |address: &str| {
        console.browser.open("about:blank");
        console.browser.open(address);
    };
    let address = format!("http://{}/console", console.home.admin_address());
    console.browser.run(plant, &[json!("a"), json!(false)]);
    open_again(&address);
    console.wait_for_headline("Ready");
    let token = console.home.token("admin:read");
    let read_config = |id: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [("Authorization", bearer.as_str()), ("X-Request-Id", id)];
        let host = console.home.admin_address();
        let response = request(&host, "GET", "/admin/config", &headers, "");
        assert_eq!(response.status, 200);
    };
    read_config("of-an-intruder");
    console.wait_for_line("of-an-intruder");
    // Nor does a request id that somebody has seen in the log, or made up.
    let own = console.run("return JSON.parse(sessionStorage['fullon-session']).id");
    read_config(&format!("seen-session_id={}", own.as_str().unwrap()));
    console.wait_for_line("seen-session_id");
    console.home.log_request("later");
    console.wait_for_line("later");
    let lines = console.lines();
    assert!(!lines.iter().any(|line| line.contains("/admin/status")));
    console.click("own");
    console.wait_for_line("/admin/status");

    console
        .browser
        .run(plant, &[json!("\u{4e2d}"), json!(true)]);
    open_again(&address);
    console.wait_until("it is not signed in", "return !$('signed-out').hidden");
    assert_eq!(console.text("notice"), "");
    // Any page can link to such an address.
    console
        .browser
        .run("location.hash = '#token=\u{4e2d}'; return 0", &[]);
    console.wait_until(
        "the address is refused",
        "return $('notice').textContent.includes('used before')",
    );
    open_again(&console.sign_in_address());
    // The browser still has the cookie of its session.
    console.wait_until("the page asks", "return $('dialog').open");
    console.click("dialog-confirm");
    console.wait_for_headline("Ready");
}

/// It has the origin of the console, and hears all that tabs of this origin tell each other.
#[test]
fn page_left_in_another_tab_gets_no_session() {
    if !browser_available("a page of another program in another tab") {
        return;
    }
    let console = Console::signed_out();
    let address = format!("http://{}/console", console.home.admin_address());
    let squatter = squat(&console);
    squatter.answer("/console", PAGE_HEAD, PAGE);
    console.browser.open(&address);
    wait_for_title(&console, "squatted");
    let listen = "
        const channel = window.channel = new BroadcastChannel('fullon-session');
        window.heard = [];
        channel.onmessage = event => heard.push(event.data);
        return 0;
    ";
    console.browser.run(listen, &[]);
    drop(squatter);
    console.home.run(["start"]).succeeds();
    let front = console.browser.hide_behind_new_tab();
    console.browser.open(&console.sign_in_address());
    wait_for_title(&console, "Ready");
    let values = "return Object.values(JSON.parse(sessionStorage['fullon-session']))";
    let values = console.browser.run(values, &[]);
    drop(front);
    let ask = "channel.postMessage({ asks: true }); return 0";
    console.browser.run(ask, &[]);
    eventually("it has heard of the sign-in", || {
        console.browser.run("return heard.length", &[]).as_u64() > Some(0)
    });
    let heard = console.browser.run("return heard", &[]).to_string();
    for value in values.as_array().unwrap() {
        assert!(!heard.contains(value.as_str().unwrap()), "{heard}");
    }
}

/// It can say that somebody has signed in, as often as it likes.
#[test]
fn messages_of_a_page_left_in_another_tab_cause_few_requests() {
    if !browser_available("many messages of another tab") {
        return;
    }
    let console = Console::signed_in();
    let flood = "
        window.asked = 0;
        const fetchReally = window.fetch;
        window.fetch = (request, ...more) => {
            if (request.url.endsWith('/admin/session')) asked++;
            return fetchReally(request, ...more);
        };
        const [left, other] = [1, 2].map(() => new BroadcastChannel('fullon-session'));
        return new Promise(resolve => {
            let count = 0;
            other.onmessage = () => { if (++count === 500) resolve(count); };
            for (let sent = 0; sent < 500; sent++) left.postMessage({ created: true });
        });
    ";
    assert_eq!(console.run(flood), 500);
    console.wait_until("it looks for its session", "return asked > 0");
    let asked = console.run("return asked").as_u64().unwrap();
    assert!(asked < 20, "{asked}");
    console.wait_for_headline("Ready");
    assert_eq!(console.run("return $('act-stop').disabled"), false);
}

/// The cookie and the ticket are enough, which another program on the port may have got.
#[test]
fn log_stream_that_is_read_with_stolen_values_is_shown() {
    if !browser_available("a stolen ticket") {
        return;
    }
    let console = Console::signed_in();
    let ticket = console.run("return JSON.parse(sessionStorage['fullon-session']).ticket");
    let path = format!(
        "/admin/logs/stream?lines=0&ticket={}",
        ticket.as_str().unwrap()
    );
    let cookies = console.browser.cookies();
    let cookies = cookies
        .iter()
        .map(|each| format!("{}={}", each.name, each.value));
    let cookies = cookies.collect::<Vec<_>>().join("; ");
    let mut stream = Connection::open(&console.home.admin_address());
    let headers = [("Cookie", cookies.as_str()), ("X-Request-Id", "of-a-thief")];
    stream.send("GET", &path, &headers, "");
    assert_eq!(stream.read_head().status, 200);
    console.wait_for_line("of-a-thief");
    let lines = console.lines();
    assert!(!lines.iter().any(|line| line.contains("/admin/status")));
}

/// Otherwise any page could sign its visitors out.
#[test]
fn only_the_opened_file_can_clear_the_browser() {
    let home = Home::started();
    let get = |path: &str, host: &str| {
        let from_file = [("Sec-Fetch-Site", "cross-site"), ("Host", host)];
        request(&home.admin_address(), "GET", path, &from_file, "")
    };
    // Somebody with any token can make one-time tokens.
    let one_time = home.call_admin("POST", "/admin/session/token").json();
    let id = sign_in_id(one_time["token"].as_str().unwrap());
    for path in [
        "/console/clear/",
        "/console/clear/0000",
        "/console/clear.svg",
    ] {
        for path in [
            path.to_owned(),
            format!("{path}?{id}"),
            format!("{path}/{id}"),
        ] {
            let response = get(&path, &home.admin_address());
            assert!([403, 404].contains(&response.status), "{response:#?}");
            assert_eq!(response.header("clear-site-data"), None);
        }
    }
    let response = get(&format!("/console/clear/{id}"), &home.admin_address());
    response.assert_problem(404, "");

    let opened = || {
        let file = opened_file(&home);
        let address = clear_address(&file);
        let path = address.strip_prefix(&format!("http://{}", home.admin_address()));
        let page = fs::read_to_string(file.strip_prefix("file://").unwrap()).unwrap();
        let (_, rest) = page.split_once("#token=").unwrap();
        (path.unwrap().to_owned(), rest[..64].to_owned())
    };
    let (path, token) = opened();
    assert_eq!(get(&path, "evil.example").status, 403);
    let response = get(&path, &home.admin_address());
    assert_eq!(response.status, 200);
    // Never the cookies: other ports have the same ones.
    let expected = "\"cache\", \"storage\"";
    assert_eq!(response.header("clear-site-data"), Some(expected));
    // It is valid once, and the token is not used up by it.
    assert_eq!(get(&path, &home.admin_address()).status, 404);
    let sign_in = |token: &str| home.call_admin_as(token, "POST", "/admin/session").status;
    assert_eq!(sign_in(&token), 201);
    let (path, token) = opened();
    assert_eq!(sign_in(&token), 201);
    assert_eq!(get(&path, &home.admin_address()).status, 404);
}

//! Another program listened on the port of the daemon, and has left something in the browser.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use super::Console;
use crate::support::{Home, OtherServer, Outcome, browser_available, eventually, request};

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
    let mut command = home.fullon(["console", "--open"]);
    command
        .env("BROWSER", &browser)
        .env("XDG_RUNTIME_DIR", home.path());
    Outcome::run(&mut command).succeeds();
    eventually("the browser was started", || page.exists());
    format!("file://{}", page.display())
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

/// Otherwise any page could sign its visitors out.
#[test]
fn only_the_opened_file_can_clear_the_browser() {
    let home = Home::started();
    let [page, foreign] = ["", "?0000"].map(|query| {
        let path = format!("/console/clear.svg{query}");
        request(&home.admin_address(), "GET", &path, &[], "")
    });
    for response in [page, foreign] {
        response.assert_problem(404, "");
        assert_eq!(response.header("clear-site-data"), None);
    }
    let file = opened_file(&home);
    let file = fs::read_to_string(file.strip_prefix("file://").unwrap()).unwrap();
    let (_, rest) = file.split_once("/console/clear.svg?").unwrap();
    let path = format!("/console/clear.svg?{}", &rest[..64]);
    let get = |host: &str| {
        let from_file = [("Sec-Fetch-Site", "cross-site"), ("Host", host)];
        request(&home.admin_address(), "GET", &path, &from_file, "")
    };
    let response = get(&home.admin_address());
    assert_eq!(response.status, 200);
    // Never the cookies: other ports have the same ones.
    let expected = "\"cache\", \"storage\"";
    assert_eq!(response.header("clear-site-data"), Some(expected));
    assert_eq!(get("evil.example").status, 403);
    // The token of the address is used up.
    let (_, rest) = file.split_once("#token=").unwrap();
    let signed_in = home.call_admin_as(&rest[..64], "POST", "/admin/session");
    assert_eq!(signed_in.json()["signed_in_as"], json!(null));
    assert_eq!(get(&home.admin_address()).status, 404);
}

//! Signing in and out.

use serde_json::json;

use super::{Console, RECORD_DOWNLOADS};
use crate::support::{OtherServer, SESSION_HEADERS, browser_available, request};

#[test]
fn console_address_signs_in_once() {
    if !browser_available("signing in to the console") {
        return;
    }
    let console = Console::signed_out();
    console
        .browser
        .open(&format!("http://{}/", console.home.admin_address()));
    console.wait_until(
        "the page says how to sign in",
        "return !$('signed-out').hidden && $('content').hidden",
    );
    assert!(console.text("signed-out").contains("fullon console"));

    let address = console.sign_in_address();
    console.browser.open(&address);
    console.wait_for_headline("Ready");
    assert_eq!(console.run("return location.hash + location.search"), "");
    assert_eq!(console.run("return document.cookie"), "");
    // It cannot be used again, neither with another client nor in another browser.
    let token = address.split_once("#token=").unwrap().1;
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", bearer.as_str())];
    let second_use = request(
        &console.home.admin_address(),
        "POST",
        "/admin/session",
        &headers,
        "",
    );
    assert_eq!(second_use.status, 401);
    console.browser.open("about:blank");
    console.browser.clear_storage(&console.home.state().admin);
    console.browser.open(&address);
    console.wait_until(
        "the address is refused",
        "return !$('signed-out').hidden && $('content').hidden",
    );
    assert!(console.text("notice").contains("used before"));

    console.browser.open("about:blank");
    console.browser.open(&console.sign_in_address());
    console.wait_for_headline("Ready");
    // A window that is opened later is signed in, too.
    console.browser.open("about:blank");
    console
        .browser
        .open(&format!("http://{}/admin", console.home.admin_address()));
    console.wait_for_headline("Ready");
    console.click("sign-out");
    console.wait_until(
        "the page says how to sign in",
        "return !$('signed-out').hidden && $('content').hidden",
    );
    // From the second use of the address.
    console.assert_no_errors_except(&["401 (Unauthorized)"]);
}

#[test]
fn sessions_are_listed_and_ended_in_the_page() {
    if !browser_available("the list of sessions") {
        return;
    }
    let console = Console::signed_in();
    let other = console.home.sign_in("admin:read admin:control");
    let host = console.home.admin_address();
    let status = || other.request(&host, "GET", "/admin/status").status;
    assert_eq!(status(), 200);
    console.run("$('sessions').open = true; return 0");
    console.wait_until(
        "both sessions are listed",
        "return $('sessions').querySelectorAll('tbody button:enabled').length === 2",
    );
    let own = "[...$('sessions').querySelectorAll('tbody tr')].map(row => row.innerText.includes('this session'))";
    assert_eq!(console.run(&format!("return {own}")), json!([true, false]));
    console.run("$('sessions').querySelectorAll('tbody button')[1].click(); return 0");
    assert!(
        console
            .text("dialog-title")
            .starts_with("End the session of ")
    );
    assert_eq!(status(), 200);
    console.click("dialog-confirm");
    console.wait_until(
        "the other session has left the list",
        "return $('sessions').querySelectorAll('tbody button').length === 1",
    );
    assert_eq!(status(), 401);
    console.wait_until(
        "the audit trail shows it",
        "return /end_session\\s+accepted/.test($('audit').innerText)",
    );
    // Its own session, as signing out does.
    console.click("dialog-cancel");
    console.run("$('sessions').querySelector('tbody button').click(); return 0");
    console.click("dialog-confirm");
    console.wait_until(
        "the page has noticed",
        "return $('notice').innerText.includes('fullon console')",
    );
    console.assert_no_errors_except(&["401 (Unauthorized)"]);
}

/// The address that is opened as `localhost` leads to the one that is printed, with its token.
#[test]
fn localhost_leads_to_numeric_address() {
    if !browser_available("the console as localhost") {
        return;
    }
    let console = Console::signed_out();
    let address = console.sign_in_address();
    let named = address.replace("127.0.0.1", "localhost");
    assert_ne!(named, address);
    console.browser.open(&named);
    console.wait_for_headline("Ready");
    let expected = format!("http://{}/console", console.home.admin_address());
    assert_eq!(console.run("return location.href"), expected);
    console.assert_no_errors();
}

/// A text must not become HTML or a script.
#[test]
fn text_is_never_html_or_script() {
    if !browser_available("Trusted Types") {
        return;
    }
    let console = Console::signed_in();
    console.assert_no_errors();
    for sink in [
        "document.body.innerHTML = '<b>x</b>'",
        "document.createElement('script').text = 'x'",
        "document.createElement('script').src = '/console/main.js'",
        "document.createElement('iframe').srcdoc = 'x'",
        "trustedTypes.createPolicy('default', { createHTML: text => text })",
        "setTimeout('x')",
    ] {
        let script =
            format!("try {{ {sink}; return 'accepted' }} catch (error) {{ return error.name }}");
        assert_eq!(console.run(&script), "TypeError", "{sink}");
    }
}

/// A link with the token of somebody else must not replace the session unnoticed.
#[test]
fn second_sign_in_asks_first_and_says_as_whom() {
    if !browser_available("signing in twice") {
        return;
    }
    let console = Console::signed_in();
    let me = console.text("who");
    let own_id = "return JSON.parse(sessionStorage['fullon-session']).id";
    let id = console.run(own_id);
    let open_address_of_another = || {
        let token = console
            .home
            .run(["token", "--subject", "mallory"])
            .succeeds();
        let token = token.stdout.trim().to_owned();
        let one_time = console
            .home
            .call_admin_as(&token, "POST", "/admin/session/token");
        let one_time = one_time.json()["token"].as_str().unwrap().to_owned();
        let navigate = "location.hash = '#token=' + arguments[0]; return 0";
        console.browser.run(navigate, &[json!(one_time)]);
        console.wait_until(
            "the page asks",
            "return $('dialog').open && $('dialog-title').textContent === 'Sign in as mallory?'",
        );
        one_time
    };
    let refused = open_address_of_another();
    assert!(
        console
            .text("dialog-body")
            .contains(me.split(',').next().unwrap())
    );
    console.click("dialog-cancel");
    assert_eq!(console.text("who"), me);
    assert_eq!(console.run(own_id), id);
    console.wait_for_headline("Ready");
    // Asking has not used the address up.
    assert_eq!(
        console
            .home
            .call_admin_as(&refused, "POST", "/admin/session")
            .status,
        201
    );

    open_address_of_another();
    console.click("dialog-confirm");
    console.wait_until(
        "the other user is signed in",
        "return !$('dialog').open && $('who').textContent.startsWith('mallory,')",
    );
    console.wait_for_headline("Ready");
    console.home.log_request("seen-by-the-other");
    console.wait_for_line("seen-by-the-other");
    // From a request that was in flight when the session was replaced.
    console.assert_no_errors_except(&["401 (Unauthorized)"]);
}

/// A page on another port can replace the cookie, and then open its link.
#[test]
fn link_of_another_asks_whatever_cookies_another_port_sets() {
    if !browser_available("a page that sets cookies for all ports") {
        return;
    }
    let console = Console::signed_in();
    let host = console.home.admin_address();
    let token = console
        .home
        .run(["token", "--subject", "mallory"])
        .succeeds();
    let token = token.stdout.trim();
    let call = |path| console.home.call_admin_as(token, "POST", path);
    let cookie = call("/admin/session").cookie();
    let (name, _) = cookie.split_once('=').unwrap();
    let elsewhere = OtherServer::start();
    for set in [
        format!("{name}=x; Path=/"),
        format!("{name}=; Path=/; Max-Age=0"),
        format!("{cookie}; Path=/admin/session"),
        format!("{cookie}; Path=/admin/session/token"),
    ] {
        let head = format!("200 OK\r\nContent-Type: text/html\r\nSet-Cookie: {set}");
        elsewhere.answer("/", &head, "<!doctype html>");
        let one_time = call("/admin/session/token").json();
        let link = format!(
            "http://{host}/console#token={}",
            one_time["token"].as_str().unwrap()
        );
        let front = console.browser.hide_behind_new_tab();
        console.browser.run_before_each_page(RECORD_DOWNLOADS);
        console
            .browser
            .open(&format!("http://127.0.0.1:{}/", elsewhere.port()));
        let follow = "location.href = arguments[0]; return 0";
        console.browser.run(follow, &[json!(link)]);
        console.wait_until(
            &format!("the page asks after {set}"),
            "return Boolean(window.$ && $('dialog')?.open) && $('dialog-title').textContent === 'Sign in as mallory?'",
        );
        // Nobody is named whose session is not proven.
        let text = console.text("dialog-body");
        assert!(!text.contains("is signed in as"), "{set}: {text}");
        console.click("dialog-cancel");
        console.wait_until("it is not signed in", "return !$('signed-out').hidden");
        drop(front);
    }
}

/// The API asks for a new sign-in, because another program may have listened on the port.
#[test]
fn log_continues_after_crash_until_user_signs_in_again() {
    if !browser_available("the console after a crash") {
        return;
    }
    let console = Console::signed_in();
    let killed = console.home.daemon().unwrap();
    killed.kill().unwrap();
    assert!(killed.wait_for_exit(crate::support::DEADLINE));
    console.home.run(["start"]).succeeds();
    console.wait_for_headline("Please sign in again");
    console.home.log_request("logged-after-the-crash");
    console.wait_for_line("logged-after-the-crash");
    assert!(console.text("notice").contains("fullon console"));
    let address = console.sign_in_address();
    let navigate = "location.href = arguments[0]; return 0";
    console.browser.run(navigate, &[json!(address)]);
    console.wait_for_headline("Ready");
    assert_eq!(console.run("return $('dialog').open"), false);
    console.home.log_request("logged-after-signing-in");
    console.wait_for_line("logged-after-signing-in");
    let lines = console.lines();
    let once = lines
        .iter()
        .filter(|line| line.contains("logged-after-the-crash"));
    assert_eq!(once.count(), 1);
}

/// Another program may have got the values for the log.
#[test]
fn log_that_continues_after_crash_ends_by_signing_out() {
    if !browser_available("signing out after a crash") {
        return;
    }
    let console = Console::signed_in();
    let id = console.run("return JSON.parse(sessionStorage['fullon-session']).id");
    let killed = console.home.daemon().unwrap();
    killed.kill().unwrap();
    assert!(killed.wait_for_exit(crate::support::DEADLINE));
    console.home.run(["start"]).succeeds();
    console.wait_for_headline("Please sign in again");
    let sessions = || {
        let list = console.home.run(["sessions", "--json"]).succeeds();
        list.stdout.contains(id.as_str().unwrap())
    };
    assert!(sessions());
    assert_eq!(console.run("return $('sign-out').hidden"), false);
    console.click("sign-out");
    console.wait_until(
        "it is not signed in",
        "return document.readyState === 'complete' && Boolean($('signed-out')) && !$('signed-out').hidden",
    );
    assert!(!sessions());
}

/// The server knows that the browser is signed in, also if the tab that is cannot answer.
#[test]
fn sign_in_in_another_tab_asks_and_signs_the_first_one_out() {
    if !browser_available("two tabs of the console") {
        return;
    }
    let console = Console::signed_in();
    let me = console.text("who");
    let me = me.split(',').next().unwrap();
    let address = format!("http://{}/console", console.home.admin_address());
    console.browser.run(
        "setTimeout(() => { for (const end = Date.now() + 5000; Date.now() < end;); }); return 0",
        &[],
    );
    let front = console.browser.hide_behind_new_tab();
    console.browser.run_before_each_page(RECORD_DOWNLOADS);
    console.browser.open(&address);
    console.wait_until("it is not signed in", "return !$('signed-out').hidden");
    let new_address = console.sign_in_address();
    let (_, fragment) = new_address.split_once('#').unwrap();
    let open = "location.hash = arguments[0]; return 0";
    console.browser.run(open, &[json!(fragment)]);
    console.wait_until("the page asks", "return $('dialog').open");
    // The cookie does not prove who the user of the other tab is.
    assert!(!console.text("dialog-body").contains("is signed in as"));
    assert_eq!(console.text("dialog-title"), format!("Sign in as {me}?"));
    console.click("dialog-confirm");
    console.wait_for_headline("Ready");
    drop(front);
    console.wait_for_headline("Please sign in again");
    assert!(console.text("notice").contains("in another tab"));
    // Signing out there ends only the session of that tab.
    assert_eq!(session_count(&console), 2);
    console.click("sign-out");
    wait_until_signed_out(&console);
    assert_eq!(session_count(&console), 1);
}

fn session_count(console: &Console) -> usize {
    let list = console.home.run(["sessions", "--json"]).succeeds();
    let list: Vec<serde_json::Value> = serde_json::from_str(&list.stdout).unwrap();
    list.len()
}

fn wait_until_signed_out(console: &Console) {
    console.wait_until(
        "it is signed out",
        "return document.readyState === 'complete' && Boolean($('signed-out')) && !$('signed-out').hidden && $('sign-out').hidden && $('notice').textContent === ''",
    );
}

/// Any port of the host can replace it, also the program that has stolen the other values.
#[test]
fn session_whose_cookie_was_replaced_is_not_said_to_have_ended() {
    if !browser_available("a replaced cookie") {
        return;
    }
    let console = Console::signed_in();
    let host = console.home.admin_address();
    let value = console.run("return JSON.parse(sessionStorage['fullon-session']).session");
    let cookies = console.browser.cookies();
    let cookie = cookies
        .iter()
        .find(|each| each.name.starts_with("fullon-session"))
        .unwrap();
    let stolen = format!("{}={}", cookie.name, cookie.value);
    let use_stolen = || {
        let headers = [
            ("Cookie", stolen.as_str()),
            ("X-Fullon-Session", value.as_str().unwrap()),
        ];
        request(&host, "GET", "/admin/status", &headers, "").status
    };
    let address = format!("http://{host}/console");
    let replace = json!({ "url": address, "name": cookie.name, "value": "x" });
    console.browser.command("Network.setCookie", replace);
    let assert_says_what_is_left = || {
        let notice = console.text("notice");
        assert!(notice.contains("Sign out") && notice.contains("fullon sessions"));
        assert_eq!(console.run("return $('sign-out').hidden"), false);
        assert_eq!(use_stolen(), 200);
    };
    console.wait_for_headline("Please sign in again");
    assert_says_what_is_left();
    // The stream is refused, too.
    console.click("follow");
    console.fill("contains", "x");
    console.wait_until(
        "the log is refused",
        "return $('log-state').textContent === 'Please sign in again'",
    );
    assert_says_what_is_left();
    console.browser.open("about:blank");
    console.browser.open(&address);
    console.wait_until("it is not signed in", "return !$('signed-out').hidden");
    assert_says_what_is_left();
    console.click("sign-out");
    wait_until_signed_out(&console);
    assert_eq!(use_stolen(), 401);
}

/// It may have got the values before, so that they have to end later.
#[test]
fn sign_out_that_another_program_refuses_is_not_shown_as_done() {
    if !browser_available("another program that refuses to sign out") {
        return;
    }
    let console = Console::signed_in();
    let host = console.home.admin_address();
    console.home.run(["stop"]).succeeds();
    let squatter = OtherServer::start_on(host.rsplit(':').next().unwrap().parse().unwrap());
    squatter.answer("/admin/session", "401 Unauthorized", "");
    console.click("sign-out");
    console.wait_until(
        "it says where to look",
        "return $('notice').textContent.includes('`fullon sessions`')",
    );
    assert_eq!(
        console.run("return $('sign-out').hidden || $('content').hidden"),
        false
    );
    drop(squatter);
    console.home.run(["start"]).succeeds();
    assert_eq!(session_count(&console), 1);
    console.click("sign-out");
    wait_until_signed_out(&console);
    assert_eq!(session_count(&console), 0);
}

/// A browser refuses requests to addresses with credentials.
#[test]
fn address_with_credentials_opens_a_console_that_works() {
    if !browser_available("an address with credentials") {
        return;
    }
    let console = Console::signed_out();
    let address = console.sign_in_address();
    let address = address.replace("http://", "http://user:password@");
    console.browser.open(&address);
    console.wait_for_headline("Ready");
    console.home.log_request("seen-with-credentials");
    console.wait_for_line("seen-with-credentials");
    console.assert_no_errors();
}

#[test]
fn ended_session_is_shown_and_page_content_stays() {
    if !browser_available("the end of a session") {
        return;
    }
    let console = Console::signed_in();
    console.home.log_request("seen-before-the-end");
    console.wait_for_line("seen-before-the-end");
    // Signs out as another window would.
    let sign_out = format!(
        "return fetch('/admin/session', {{ method: 'DELETE', headers: {SESSION_HEADERS} }}).then(answer => answer.status)"
    );
    assert_eq!(console.run(&sign_out), 204);
    console.wait_for_headline("The session has ended");
    assert!(console.text("notice").contains("fullon console"));
    assert_eq!(
        console.run("return $('act-stop').disabled && !$('content').hidden"),
        true
    );
    assert!(
        console
            .lines()
            .iter()
            .any(|line| line.contains("seen-before-the-end"))
    );

    // Nothing that the user does changes the lines.
    let before = console.lines();
    console.fill("contains", "something else");
    console.fill("level", "error");
    console.click("follow");
    console.click("follow");
    console.run("location.hash = '#log'; return 0");
    console.wait_until(
        "the state is still shown",
        "return $('log-state').textContent === 'The session has ended' && !$('content').hidden",
    );
    assert_eq!(console.lines(), before);
    console.fill("contains", "");
    console.fill("level", "");
    // A used address neither signs in nor clears the page.
    let used_address = console.sign_in_address();
    let (_, token) = used_address.split_once("token=").unwrap();
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", bearer.as_str())];
    let admin = console.home.admin_address();
    assert_eq!(
        request(&admin, "POST", "/admin/session", &headers, "").status,
        201
    );
    let navigate = "location.href = arguments[0]; return 0";
    console.browser.run(navigate, &[json!(used_address)]);
    console.wait_until(
        "the address is refused",
        "return $('notice').textContent.includes('used before')",
    );
    assert_eq!(console.lines(), before);

    console.home.log_request("logged-meanwhile");
    let address = console.sign_in_address();
    console.browser.run(navigate, &[json!(address)]);
    console.wait_for_headline("Ready");
    console.wait_for_line("logged-meanwhile");
    let lines = console.lines();
    let before = lines
        .iter()
        .filter(|line| line.contains("seen-before-the-end"));
    assert_eq!(before.count(), 1);
    assert_eq!(console.run("return $('act-stop').disabled"), false);
    console.assert_no_errors_except(&["401 (Unauthorized)"]);
}

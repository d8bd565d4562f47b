//! Signing in and out.

use serde_json::json;

use super::Console;
use crate::support::{needs_browser, request};

#[test]
fn console_address_signs_in_once() {
    if !needs_browser("signing in to the console") {
        return;
    }
    let console = Console::closed();
    console
        .browser
        .open(&format!("http://{}/", console.home.admin()));
    console.waits(
        "the page says how to sign in",
        "return !$('signed-out').hidden && $('content').hidden",
    );
    assert!(console.text("signed-out").contains("fullon console"));

    let address = console.address();
    console.browser.open(&address);
    console.says("Ready");
    assert_eq!(console.run("return location.hash + location.search"), "");
    assert_eq!(console.run("return document.cookie"), "");
    // It cannot be used again, neither with another client nor in another browser.
    let token = address.split_once("#token=").unwrap().1;
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", bearer.as_str())];
    let again = request(
        &console.home.admin(),
        "POST",
        "/admin/session",
        &headers,
        "",
    );
    assert_eq!(again.status, 401);
    console.browser.open("about:blank");
    console.browser.forget(&console.home.state().admin);
    console.browser.open(&address);
    console.waits(
        "the address is refused",
        "return !$('signed-out').hidden && $('content').hidden",
    );
    assert!(console.text("notice").contains("used before"));

    console.browser.open("about:blank");
    console.browser.open(&console.address());
    console.says("Ready");
    // A window that is opened later is signed in, too.
    console.browser.open("about:blank");
    console
        .browser
        .open(&format!("http://{}/admin", console.home.admin()));
    console.says("Ready");
    console.click("sign-out");
    console.waits(
        "the page says how to sign in",
        "return !$('signed-out').hidden && $('content').hidden",
    );
    // From the second use of the address.
    console.has_behaved_but_for(&["401 (Unauthorized)"]);
}

#[test]
fn ended_session_is_shown_and_page_content_stays() {
    if !needs_browser("the end of a session") {
        return;
    }
    let console = Console::open();
    console.home.mark("seen-before-the-end");
    console.has_line("seen-before-the-end");
    // Signs out as another window would.
    let elsewhere =
        "return fetch('/admin/session', { method: 'DELETE' }).then(answer => answer.status)";
    assert_eq!(console.run(elsewhere), 204);
    console.says("The session has ended");
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
    console.enter("contains", "something else");
    console.enter("level", "error");
    console.click("follow");
    console.click("follow");
    console.run("location.hash = '#log'; return 0");
    console.waits(
        "the state is still shown",
        "return $('log-state').textContent === 'The session has ended' && !$('content').hidden",
    );
    assert_eq!(console.lines(), before);
    console.enter("contains", "");
    console.enter("level", "");
    // A used address neither signs in nor clears the page.
    let used = console.address();
    let (_, token) = used.split_once("token=").unwrap();
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", bearer.as_str())];
    let admin = console.home.admin();
    assert_eq!(
        request(&admin, "POST", "/admin/session", &headers, "").status,
        201
    );
    let follow = "location.href = arguments[0]; return 0";
    console.browser.run(follow, &[json!(used)]);
    console.waits(
        "the address is refused",
        "return $('notice').textContent.includes('used before')",
    );
    assert_eq!(console.lines(), before);

    console.home.mark("logged-meanwhile");
    let address = console.address();
    console.browser.run(follow, &[json!(address)]);
    console.says("Ready");
    console.has_line("logged-meanwhile");
    let lines = console.lines();
    let before = lines
        .iter()
        .filter(|line| line.contains("seen-before-the-end"));
    assert_eq!(before.count(), 1);
    assert_eq!(console.run("return $('act-stop').disabled"), false);
    console.has_behaved_but_for(&["401 (Unauthorized)"]);
}

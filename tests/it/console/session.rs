//! Signing in and out.

use serde_json::json;

use super::Console;
use crate::support::{browser_available, request};

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
fn ended_session_is_shown_and_page_content_stays() {
    if !browser_available("the end of a session") {
        return;
    }
    let console = Console::signed_in();
    console.home.log_request("seen-before-the-end");
    console.wait_for_line("seen-before-the-end");
    // Signs out as another window would.
    let sign_out =
        "return fetch('/admin/session', { method: 'DELETE' }).then(answer => answer.status)";
    assert_eq!(console.run(sign_out), 204);
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

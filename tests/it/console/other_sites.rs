//! Pages of other sites that open the console, in the tab where it was signed in or from there.

use serde_json::json;

use super::Console;
use crate::support::{Home, OtherServer, browser_available, eventually, request};

/// Holds the moment in which clicks do nothing, until `letClicksAct` is called.
const HOLD_MOMENT: &str = "
    const startTimer = window.setTimeout;
    let end = () => {};
    window.setTimeout = (run, delay, ...more) => {
        if (delay !== 1000) return startTimer(run, delay, ...more);
        end = run;
        return -1;
    };
    window.letClicksAct = () => {
        end();
        return 'settling' in document.documentElement.dataset;
    };
";

const IS_SIGNED_OUT: &str = "
    const page = document.getElementById('signed-out');
    return document.readyState === 'complete' && Boolean(page) && !page.hidden;
";

/// The same page on another site, and on another port of the same site.
fn addresses(elsewhere: &OtherServer) -> [String; 2] {
    ["localhost", "127.0.0.1"].map(|host| format!("http://{host}:{}/", elsewhere.port()))
}

/// Chromium copies the storage of a tab into the windows that pages in it open.
#[test]
fn window_that_another_site_opens_is_not_signed_in() {
    if !browser_available("a window of another site") {
        return;
    }
    let console = Console::signed_in();
    let elsewhere = OtherServer::start();
    let admin = console.home.admin_address();
    let is_known = "return Boolean(sessionStorage['fullon-session'])";
    for address in addresses(&elsewhere) {
        console.browser.open(&address);
        for path in ["/console", "/console?", "/admin"] {
            let _window = console
                .browser
                .open_window(&format!("http://{admin}{path}"));
            console.wait_until("the console is signed out", IS_SIGNED_OUT);
            assert_eq!(console.run(is_known), false);
            let expected = format!("http://{admin}/console");
            assert_eq!(console.run("return location.href"), expected);
        }
        let window = console
            .browser
            .open_window(&format!("http://{admin}/admin/docs"));
        console.wait_until(
            "the documentation is open",
            "return document.querySelectorAll('.opblock').length > 3",
        );
        assert_eq!(console.run(is_known), false);
        drop(window);
        // The tab itself is signed in when the user returns to it.
        console.run("history.back(); return 0");
        console.wait_for_headline("Ready");
    }
    console.browser.open(&format!("http://{admin}/console"));
    console.wait_for_headline("Ready");
}

#[test]
fn link_of_another_site_opens_the_console_signed_out() {
    if !browser_available("a link of another site") {
        return;
    }
    let console = Console::signed_in();
    let elsewhere = OtherServer::start();
    let page = format!("http://{}/console", console.home.admin_address());
    for address in addresses(&elsewhere) {
        console.browser.open(&address);
        let follow = "location.href = arguments[0]; return 0";
        console.browser.run(follow, &[json!(page)]);
        console.wait_until("the console is signed out", IS_SIGNED_OUT);
        // From now on it is a page like any other.
        let new_address = console.sign_in_address();
        let (_, fragment) = new_address.split_once('#').unwrap();
        let open = "location.hash = arguments[0]; return 0";
        console.browser.run(open, &[json!(fragment)]);
        // The browser has the cookie of the session that the page has forgotten.
        console.wait_until("the page asks", "return $('dialog').open");
        console.click("dialog-confirm");
        console.wait_for_headline("Ready");
        console.browser.reload();
        console.wait_for_headline("Ready");
        assert_eq!(console.run("return location.href"), page);
    }
}

/// On the admin port only, and before anything that the browser says about the other site.
#[test]
fn admin_port_refuses_requests_for_pages_before_the_user_opens_them() {
    let home = Home::started();
    let reason = "before the user opens it are rejected";
    for (name, value) in [
        ("Sec-Purpose", "prefetch"),
        ("Sec-Purpose", "prefetch;prerender"),
        ("Sec-Purpose", "prefetch;anonymous-client-ip"),
        ("Purpose", "prefetch"),
        ("X-Purpose", "preview"),
        ("X-Moz", "prefetch"),
    ] {
        for site in ["none", "same-origin", "cross-site"] {
            let headers = [
                (name, value),
                ("Sec-Fetch-Site", site),
                ("Sec-Fetch-Mode", "navigate"),
                ("Sec-Fetch-Dest", "document"),
            ];
            for path in ["/", "/console", "/console/main.js", "/admin", "/admin/docs"] {
                let answer = request(&home.admin_address(), "GET", path, &headers, "");
                assert_eq!(answer.status, 403, "{path}");
                assert!(answer.body.contains(reason), "{path}");
                assert_eq!(answer.header("cache-control"), Some("no-store"));
                let answer = request(&home.admin_address(), "GET", path, &headers[..2], "");
                answer.assert_problem(403, reason);
            }
            let answer = request(&home.public_address(), "GET", "/docs", &headers, "");
            assert_eq!(answer.status, 200, "{name}: {value}");
        }
    }
}

/// The browser names no other site in a request that a page makes for later (speculation rules).
#[test]
fn page_that_another_site_prefetches_opens_signed_out() {
    if !browser_available("a page that another site prefetches") {
        return;
    }
    let console = Console::signed_in();
    let elsewhere = OtherServer::start();
    let admin = console.home.admin_address();
    let requests = || console.home.log().matches("path=\"/console\"").count();
    for kind in ["prefetch", "prerender"] {
        console.browser.open(&format!("http://{admin}/console"));
        console.wait_for_headline("Ready");
        let [_, same_site] = addresses(&elsewhere);
        console.browser.open(&same_site);
        let before = requests();
        let page = format!("http://{admin}/console");
        let add_rules = "
            const rules = document.createElement('script');
            rules.type = 'speculationrules';
            const list = [{ urls: [arguments[1]], eagerness: 'immediate' }];
            rules.textContent = JSON.stringify({ [arguments[0]]: list });
            document.head.append(rules);
            return 0;
        ";
        console.browser.run(add_rules, &[json!(kind), json!(page)]);
        eventually("the browser has requested the page", || requests() > before);
        let follow = "location.href = arguments[0]; return 0";
        console.browser.run(follow, &[json!(page)]);
        console.wait_until("the console is signed out", IS_SIGNED_OUT);
        let address = console.sign_in_address();
        let (_, fragment) = address.split_once('#').unwrap();
        let open = "location.hash = arguments[0]; return 0";
        console.browser.run(open, &[json!(fragment)]);
        console.wait_until("the page asks", "return $('dialog').open");
        console.click("dialog-confirm");
        console.wait_for_headline("Ready");
    }
}

/// The first click of a double click was meant for the page of another site.
#[test]
fn click_acts_only_after_a_moment() {
    if !browser_available("clicks that were meant for another page") {
        return;
    }
    let console = Console::signed_out();
    console.browser.run_before_each_page(HOLD_MOMENT);
    console.sign_in();
    let let_clicks_act = || assert_eq!(console.run("return letClicksAct()"), false);
    let is_open = || console.run("return $('dialog').open") == true;
    let click = |id: &str, count| console.browser.click_with_mouse(id, count);
    let steps = || console.text("dialog-steps");
    click("act-stop", 1);
    assert!(!is_open());
    let_clicks_act();
    click("act-stop", 2);
    assert!(!is_open());
    click("act-stop", 1);
    assert!(is_open());
    for count in [1, 2, 3] {
        click("dialog-confirm", count);
    }
    let_clicks_act();
    click("dialog-confirm", 2);
    assert_eq!(steps(), "");
    // Cancelling is always possible.
    console.run("$('dialog').close(); return 0");
    let_clicks_act();
    click("act-stop", 1);
    click("dialog-cancel", 1);
    assert!(!is_open());

    // A key that is held clicks again and again, also after the moment is over.
    let_clicks_act();
    console.run("$('act-reload').focus(); return 0");
    console.browser.press(" ");
    assert!(is_open());
    console.run("$('dialog-confirm').focus(); return 0");
    console.browser.press("Enter");
    console.browser.press(" ");
    assert_eq!(console.run("return $('dialog-confirm').disabled"), false);
    assert_eq!(steps(), "");
    let_clicks_act();
    console.browser.press("Enter");
    console.wait_until(
        "the settings are reloaded",
        "return $('dialog-steps').textContent.includes('Reloaded')",
    );
    console.run("$('dialog').close(); return 0");

    // The page comes to the front again.
    let returns: [&dyn Fn(); 3] = [
        &|| drop(console.browser.hide_behind_new_tab()),
        &|| {
            console.run("dispatchEvent(new Event('focus')); return 0");
        },
        &|| {
            let elsewhere = OtherServer::start();
            console.browser.open(&addresses(&elsewhere)[0]);
            // Chromium may drop the request while it ends the navigation before.
            console.wait_until(
                "the console is back",
                "if (location.pathname === '/console') return true;
                if (!(performance.now() - window.wentBack < 2000)) {
                    window.wentBack = performance.now();
                    history.back();
                }
                return false",
            );
            console.wait_for_headline("Ready");
        },
    ];
    for come_back in returns {
        let_clicks_act();
        come_back();
        click("act-stop", 1);
        assert!(!is_open());
    }
    let_clicks_act();
    click("act-stop", 1);
    let_clicks_act();
    click("dialog-confirm", 1);
    console.wait_for_headline("Stopped");
}

#[test]
fn double_click_does_not_sign_in_as_somebody_else() {
    if !browser_available("a link below a double click") {
        return;
    }
    let console = Console::signed_in();
    console.browser.run_before_each_page(HOLD_MOMENT);
    let token = console
        .home
        .run(["token", "--subject", "mallory"])
        .succeeds();
    let one_time = console
        .home
        .call_admin_as(token.stdout.trim(), "POST", "/admin/session/token");
    let link = format!(
        "http://{}/console#token={}",
        console.home.admin_address(),
        one_time.json()["token"].as_str().unwrap()
    );
    let elsewhere = OtherServer::start();
    console.browser.open(&addresses(&elsewhere)[1]);
    let follow = "location.href = arguments[0]; return 0";
    console.browser.run(follow, &[json!(link)]);
    console.wait_until(
        "the page asks",
        "return Boolean(window.$ && $('dialog')?.open)",
    );
    for count in [1, 2] {
        console.browser.click_with_mouse("dialog-confirm", count);
    }
    assert_eq!(console.run("return $('dialog').open"), true);
    assert_eq!(console.run("return $('dialog-confirm').disabled"), false);
    assert_eq!(console.run("return letClicksAct()"), false);
    console.browser.click_with_mouse("dialog-confirm", 1);
    console.wait_until(
        "the other user is signed in",
        "return $('who').textContent.startsWith('mallory,')",
    );
}

//! The rules of axe-core (WCAG 2.2 AA and best practices) in each size, colour scheme and state.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::Console;
use crate::support::{
    SESSION_HEADERS, browser_available, free_port, prerequisite_available, tools_directory,
};

const SIZES: [(u32, u32); 2] = [(1280, 900), (360, 780)];
const SCHEMES: [&str; 2] = ["light", "dark"];

fn axe_script() -> PathBuf {
    tools_directory().join("axe/node_modules/axe-core/axe.min.js")
}

#[track_caller]
fn assert_accessible(console: &Console, state: &str) {
    let script = "
        if (!window.axe) new Function(arguments[0])();
        return axe.run(document, { resultTypes: ['violations'] }).then(({ violations }) =>
            violations.flatMap(({ id, nodes }) => nodes.map(node => id + ': ' + node.html.slice(0, 200) + ' ' + node.failureSummary)));
    ";
    let rules = std::fs::read_to_string(axe_script()).unwrap();
    // The content policy of the page forbids `new Function`.
    let script = script.replace("new Function(arguments[0])()", &rules);
    let violations = console.browser.run(&script, &[Value::Null]);
    assert_eq!(violations, json!([]), "{state}");
}

#[test]
fn no_rule_is_broken_in_any_size_scheme_or_state() {
    let has_browser = browser_available("accessibility of the console");
    if !has_browser
        || !prerequisite_available(
            "console::accessibility",
            "axe-core (scripts/install-test-tools.sh)",
            axe_script().is_file(),
        )
    {
        return;
    }
    let console = Console::signed_out();
    let origin = console.home.state().admin;
    let page = format!("{origin}/console");
    for (width, height) in SIZES {
        for scheme in SCHEMES {
            let look = format!("{scheme}, {width} wide");
            console.browser.emulate_device(width, height, scheme);
            console.browser.open("about:blank");
            console.browser.clear_storage(&origin);
            console.browser.open(&page);
            console.wait_until(
                "the page says how to sign in",
                "return !$('signed-out').hidden",
            );
            assert_accessible(&console, &format!("{look}: signed out"));

            console.browser.open(&console.sign_in_address());
            console.wait_for_headline("Ready");
            console.home.log_request("a-line");
            console.wait_for_line("a-line");
            console.run("for (const part of document.querySelectorAll('details')) part.open = true; return 0");
            console.wait_until(
                "the settings are shown",
                "return document.querySelectorAll('#settings tbody tr').length > 20",
            );
            console.run("$('lines').focus(); return 0");
            console.browser.press("Home");
            assert_accessible(&console, &format!("{look}: signed in"));
            // Nothing is wider than the screen.
            let width_of_content = console.run("return document.documentElement.scrollWidth");
            assert!(
                width_of_content.as_u64() <= Some(u64::from(width)),
                "{look}: {width_of_content}"
            );

            for action in ["act-level", "act-reload", "act-restart", "act-stop"] {
                console.click(action);
                assert_accessible(&console, &format!("{look}: {action}"));
                console.click("dialog-cancel");
            }
            console.home.write_env("LOG_LEVEL=loud\n");
            console.confirm("act-reload");
            console.wait_until(
                "the reload is refused",
                "return $('dialog-error').textContent.includes('LOG_LEVEL')",
            );
            assert_accessible(&console, &format!("{look}: refused"));
            console.click("dialog-cancel");
            console.run(&format!("return fetch('/admin/session', {{ method: 'DELETE', headers: {SESSION_HEADERS} }}).then(() => 0)"));
            console.wait_for_headline("The session has ended");
            assert_accessible(&console, &format!("{look}: session over"));
        }
    }
    console.sign_in();
    let assert_accessible_in_all_looks = |state: &str| {
        for (width, height) in SIZES {
            for scheme in SCHEMES {
                console.browser.emulate_device(width, height, scheme);
                assert_accessible(&console, &format!("{scheme}, {width} wide: {state}"));
            }
        }
    };
    let closed_port = free_port();
    let redis = format!("REDIS_HOST=127.0.0.1\nREDIS_PORT={closed_port}\n");
    console.home.write_env(&redis);
    console.home.run(["reload"]).succeeds();
    console.wait_for_headline("Ready, but redis is down");
    assert_accessible_in_all_looks("a check is down");
    console.home.run(["stop"]).succeeds();
    console.wait_for_headline("Not reachable");
    assert_accessible_in_all_looks("not reachable");
    console.assert_no_errors_except(&[
        "401 (Unauthorized)",
        "422 (Unprocessable Entity)",
        "net::ERR_CONNECTION_REFUSED",
    ]);
}

#[test]
fn dialog_takes_focus_and_returns_it() {
    if !browser_available("dialogs by keyboard") {
        return;
    }
    let console = Console::signed_in();
    console.run("$('act-stop').focus(); return 0");
    console.wait_until_clicks_act();
    console.browser.press("Enter");
    console.wait_until(
        "the dialog is open",
        "return $('dialog').open && $('dialog').contains(document.activeElement)",
    );
    console.browser.press("Escape");
    console.wait_until(
        "the dialog is closed",
        "return !$('dialog').open && document.activeElement === $('act-stop')",
    );
    assert!(console.home.daemon().is_some());
    // Only changes of state are announced, not values that change often.
    let live = console.run("return [...document.querySelectorAll('[role=status], [role=alert], [aria-live]:not([aria-live=off]), output:not([aria-live=off])')].map(part => part.id).sort().join(' ')");
    assert_eq!(
        live,
        "copied dialog-error dialog-steps log-state notice state"
    );
    console.assert_no_errors();
}

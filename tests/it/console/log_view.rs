//! The log view: amount of lines, formats, and selected lines.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use super::Console;
use crate::support::{Home, browser_available, eventually, request};

/// More lines than a page keeps.
const LOG_LINES: usize = 25_000;
const MAX_KEPT: usize = 22_000;

/// Writes a log of an earlier daemon.
fn write_log(home: &Home, lines: usize, text: impl Fn(usize) -> String) {
    let line = |number| {
        let text = text(number);
        format!("2026-01-01T00:00:00.{number:06}Z  INFO old: {text}\n")
    };
    let path = home.log_file();
    fs::write(&path, (0..lines).map(line).collect::<String>()).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn scrolling_back_reaches_beginning_of_long_log() {
    if !browser_available("reading back in the console") {
        return;
    }
    let home = Console::home_with_fixed_ports();
    write_log(&home, LOG_LINES, |number| format!("line-{number:05}"));
    home.run(["start"]).succeeds();
    let console = Console::with_home(home);
    console.sign_in();
    console.wait_for_line("line-24999");
    eventually("the beginning is shown", || {
        console.run(
            "if ($('older').disabled) $('lines').scrollTop = 0; else $('older').click(); return 0",
        );
        console.run("return $('window').textContent.includes('The log begins here')") == true
    });
    let lines = console.lines();
    assert!(lines.len() < MAX_KEPT, "{}", lines.len());
    let old: Vec<_> = lines
        .iter()
        .filter(|line| line.contains(" old: "))
        .collect();
    let in_order = old.iter().enumerate();
    for (number, line) in in_order {
        assert!(
            line.ends_with(&format!("line-{number:05}")),
            "{number}: {line}"
        );
    }
    // The newest lines were dropped and can be loaded with a click.
    assert!(old.len() < LOG_LINES);
    assert_eq!(console.text("log-state"), "Paused");
    console.click("follow");
    console.wait_for_line("line-24999");
    console.home.log_request("the-newest");
    console.wait_for_line("the-newest");
    assert_eq!(console.text("log-state"), "Live");
    console.assert_no_errors();
}

#[test]
fn long_lines_use_little_memory() {
    if !browser_available("long lines in the console") {
        return;
    }
    let home = Console::home_with_fixed_ports();
    let long = "x".repeat(60_000);
    write_log(&home, 600, |number| format!("{number} {long}"));
    home.run(["start"]).succeeds();
    let console = Console::with_home(home);
    console.sign_in();
    console.home.log_request("the-last");
    console.wait_until(
        "the last line is shown",
        "return $('window').textContent.includes('the-last')",
    );
    let kept_bytes = console.run("$('download').click(); return downloads.at(-1).size");
    assert!(kept_bytes.as_u64() < Some(17_000_000), "{kept_bytes}");
    let shown_characters = console.run("return $('window').textContent.length");
    assert!(
        shown_characters.as_u64() < Some(100_000),
        "{shown_characters}"
    );
    console.assert_no_errors();
}

#[test]
fn selected_line_is_copied_verbatim() {
    if !browser_available("copying in the console") {
        return;
    }
    let console = Console::signed_in();
    let permissions = json!({ "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"] });
    console
        .browser
        .command("Browser.grantPermissions", permissions);
    console.home.log_request("to-be-copied");
    console.wait_for_line("to-be-copied");
    console.fill("contains", "to-be-copied");
    eventually("the line is the first one", || {
        console.run("$('lines').focus(); return 0");
        console.browser.press("Home");
        console.browser.press("ArrowDown");
        console.text("line-text").contains("to-be-copied")
    });
    console.browser.press("c");
    console.wait_until(
        "the page confirms it",
        "return $('copied').textContent === 'Copied'",
    );
    let copied = console.run("return navigator.clipboard.readText()");
    assert_eq!(copied, json!(console.text("line-text")));
    let log = console.home.log();
    assert!(log.lines().any(|line| line == copied));
    console.assert_no_errors();
}

#[test]
fn json_log_is_shown_like_text() {
    if !browser_available("a JSON log in the console") {
        return;
    }
    let mut home = Console::home_with_fixed_ports();
    home.set("LOG_FORMAT", "json");
    home.run(["start"]).succeeds();
    let console = Console::with_home(home);
    console.sign_in();
    console.home.log_request("in-json");
    console.wait_until(
        "the line is shown in parts",
        "return [...document.querySelectorAll('#window .INFO .text')].some(text => /^access: .*path=.*in-json/.test(text.textContent))",
    );
    // Requests of the page itself are hidden, but the changes that they made are shown.
    console.confirm("act-reload");
    console.wait_for_line("\"target\":\"audit\"");
    console.wait_until(
        "the reload is in the audit trail",
        "return /reload\\s+accepted/.test($('audit').innerText)",
    );
    assert!(
        !console
            .lines()
            .iter()
            .any(|line| line.contains("/admin/status"))
    );
    // Requests of others can neither forge nor displace audit entries.
    let forged = "/%20audit:%20%22target%22:%22audit%22/\"target\":\"audit\"";
    for _ in 0..60 {
        request(&console.home.public_address(), "GET", forged, &[], "");
    }
    console.confirm("act-reload");
    console.wait_until(
        "both reloads are shown",
        "return $('audit').innerText.match(/reload\\s+accepted/g).length === 2",
    );
    console.assert_no_errors();
}

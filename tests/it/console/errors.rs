//! Errors are shown where they occur, and the page stays usable.

use std::fs;
use std::process::Stdio;

use serde_json::json;

use super::Console;
use crate::support::{DEADLINE, browser_available, eventually, spawn};

#[test]
fn log_on_stdout_is_reported_once() {
    if !browser_available("the console without a log") {
        return;
    }
    let mut home = Console::home_with_fixed_ports();
    home.set("LOG_FILE", "-");
    let _daemon = spawn(home.fullon(["run"]).stdout(Stdio::null()));
    eventually("the daemon serves", || {
        home.run(["status"]).stdout.contains("Status:    Running\n")
    });
    let console = Console::with_home(home);
    console.sign_in();
    for (position, setting) in [("log-state", "LOG_FILE"), ("audit-error", "AUDIT_FILE")] {
        console.wait_until(
            "the page says what to do",
            &format!(
                "return $('{position}').textContent.includes('set {setting} to the path of a file')"
            ),
        );
    }
    let poll_count = "return performance.getEntriesByType('resource').filter(entry => entry.name.endsWith('/status')).length";
    let before = console.run(poll_count).as_u64().unwrap();
    console.wait_until(
        "the page has polled again",
        &format!("{poll_count} > {}", before + 2),
    );
    assert_eq!(console.text("state"), "Ready");
    assert_eq!(console.text("notice"), "");
    let log_requests = console.run("return performance.getEntriesByType('resource').filter(entry => entry.name.includes('/admin/logs')).length");
    // The stream, and the reason for its refusal.
    assert!(log_requests.as_u64() <= Some(6), "{log_requests}");
    console.assert_no_errors_except(&["409 (Conflict)"]);
}

#[test]
fn failure_after_dialog_was_closed_is_shown() {
    if !browser_available("the console's closed dialogs") {
        return;
    }
    let console = Console::signed_in();
    console.home.write_env("SHUTDOWN_TIMEOUT=soon\n");
    // In one script, so that the response arrives after all of it.
    console.run("$('act-restart').click(); $('dialog-confirm').click(); $('dialog').close(); $('act-stop').click(); return 0");
    console.wait_until(
        "the failure is shown",
        "return /Restart without downtime\\?[^]*SHUTDOWN_TIMEOUT/.test($('notice').textContent)",
    );
    // The failure does not appear in the dialog that is open now.
    assert_eq!(console.text("dialog-error"), "");
    assert_eq!(console.text("dialog-steps"), "");
    assert_eq!(
        console.run("return !$('dialog-confirm').disabled && !$('dialog-confirm').hidden"),
        true
    );
    console.assert_no_errors_except(&["422 (Unprocessable Entity)"]);
}

#[test]
fn failed_restart_shows_reason_and_old_daemon_continues() {
    if !browser_available("the console's failing restart") {
        return;
    }
    let console = Console::signed_in();
    let pid = console.home.state().pid;
    console.home.write_env("LOG_LEVEL=loud\n");
    console.confirm("act-restart");
    console.wait_until(
        "the reason is shown",
        "return $('dialog-error').textContent.includes('LOG_LEVEL') && $('dialog-steps').textContent.includes('continues as before')",
    );
    console.click("dialog-cancel");
    console.wait_for_headline("Ready");
    assert_eq!(console.home.state().pid, pid);
    console.assert_no_errors_except(&["422 (Unprocessable Entity)"]);
}

#[test]
fn missing_lines_are_marked() {
    if !browser_available("the console's gaps") {
        return;
    }
    let console = Console::signed_in();
    let home = &console.home;
    home.log_request("before-the-gap");
    console.wait_for_line("before-the-gap");
    let stopped_daemon = home.daemon().unwrap();
    home.run(["stop"]).succeeds();
    assert!(stopped_daemon.wait_for_exit(DEADLINE));
    console.wait_for_headline("Not reachable");
    fs::remove_file(home.log_file()).unwrap();
    home.run(["start"]).succeeds();
    console.wait_for_headline("Please sign in again");
    home.log_request("after-the-gap");
    console.wait_for_line("after-the-gap");
    let lines = console.lines();
    let position = |what: &str| lines.iter().position(|line| line.contains(what)).unwrap();
    assert!(position("before-the-gap") < position("# Lines are missing here"));
    assert!(position("# Lines are missing here") < position("after-the-gap"));
    let marked = console.run("return document.querySelectorAll('#window .gap').length");
    assert_eq!(marked, json!(1));
    console.assert_no_errors_except(&["net::ERR_CONNECTION_REFUSED", "401 (Unauthorized)"]);
}

#[test]
fn hidden_page_disconnects_and_resumes_where_it_was() {
    if !browser_available("a console in the background") {
        return;
    }
    let console = Console::signed_in();
    let home = &console.home;
    home.log_request("before-it-was-hidden");
    console.wait_for_line("before-it-was-hidden");
    let followers = || {
        let metrics = home.call_admin("GET", "/admin/metrics").body;
        let line = metrics
            .lines()
            .find(|line| line.starts_with("fullon_log_followers "));
        line.unwrap().rsplit(' ').next().unwrap().to_owned()
    };
    assert_eq!(followers(), "1");
    let hidden = console.browser.hide_behind_new_tab();
    eventually("the page is disconnected", || followers() == "0");
    home.log_request("while-it-was-hidden");
    drop(hidden);
    console.wait_for_line("while-it-was-hidden");
    let lines = console.lines();
    let occurrences = lines
        .iter()
        .filter(|line| line.contains("before-it-was-hidden"));
    assert_eq!(occurrences.count(), 1);
    console.assert_no_errors();
}

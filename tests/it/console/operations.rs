//! Log, restart, stop, reload and log level.

use serde_json::json;

use super::Console;
use crate::support::{
    DEADLINE, NumberedRequests, browser_available, eventually, is_numbered_request, request_numbers,
};

#[test]
fn log_is_live_filtered_paused_and_scrolled_back() {
    if !browser_available("the console's log") {
        return;
    }
    let console = Console::signed_in();
    let home = &console.home;
    for number in 0..2000 {
        home.log_request(&format!("early-{number:04}"));
    }
    home.log_request("a-live-line");
    console.wait_for_line("a-live-line");
    // The page holds only visible rows.
    console.wait_until(
        "the line is visible",
        "return [...document.querySelectorAll('#window > div')].some(row => row.textContent.includes('a-live-line'))",
    );
    assert!(console.run("return $('window').childElementCount").as_u64() < Some(100));

    console.fill("contains", "early-0007");
    let matching = || {
        let lines = console.lines();
        lines.iter().filter(|line| line.contains("early-")).count()
    };
    eventually("one line matches", || matching() == 1);
    console.fill("contains", "");
    console.fill("level", "error");
    eventually("no line matches", || {
        console.run("return $('download').disabled") == true
    });
    console.fill("level", "");
    console.wait_for_line("a-live-line");

    let top = || console.run("return $('lines').scrollTop").as_f64().unwrap();
    console.click("follow");
    assert_eq!(console.text("log-state"), "Paused");
    let paused_at = top();
    for number in 0..50 {
        home.log_request(&format!("while-held-{number}"));
    }
    console.wait_until(
        "new lines are counted",
        "return $('log-count').textContent.includes(' new')",
    );
    assert!((top() - paused_at).abs() < 1.0);
    console.click("follow");
    assert_eq!(console.text("log-state"), "Live");
    console.wait_until("the view is at the end", "const box = $('lines'); return box.scrollTop + box.clientHeight >= box.scrollHeight - 2 && [...document.querySelectorAll('#window > div')].some(row => row.textContent.includes('while-held-49'))");

    // Scrolling up pauses the log and loads older lines once, in order.
    assert!(
        !console
            .lines()
            .iter()
            .any(|line| line.contains("early-0000"))
    );
    eventually("the beginning is loaded", || {
        console.run("$('lines').scrollTop = 0; return 0");
        console
            .lines()
            .iter()
            .any(|line| line.contains("The log begins here"))
    });
    assert_eq!(console.text("log-state"), "Paused");
    let lines = console.lines();
    let early = lines.iter().filter(|line| line.contains("early-"));
    let early: Vec<_> = early
        .map(|line| line.split("early-").nth(1).unwrap()[..4].to_owned())
        .collect();
    let expected: Vec<_> = (0..2000).map(|number| format!("{number:04}")).collect();
    assert_eq!(early, expected);

    // With the keyboard: select a line, read it, return to live.
    console.run("$('lines').focus(); return 0");
    console.browser.press("Home");
    console.browser.press("ArrowDown");
    let is_selected = console.run("return $($('lines').getAttribute('aria-activedescendant')).textContent.length > 0 && !$('line').hidden");
    assert_eq!(is_selected, true);
    assert_eq!(console.text("line-text"), lines[1]);
    console.browser.press("End");
    assert_eq!(console.text("log-state"), "Live");
    assert_eq!(console.run("return $('line').hidden"), true);
    console.assert_no_errors();
}

#[test]
fn restart_from_page_leaves_no_gap_in_log() {
    if !browser_available("the console's restart") {
        return;
    }
    let console = Console::signed_in();
    let pid = console.home.state().pid;
    let requests = NumberedRequests::start(console.home.public_address());
    console.wait_for_line("mark-000010");
    console.click("act-restart");
    assert_eq!(console.run("return $('dialog').open"), true);
    console.click("dialog-confirm");
    console.wait_until(
        "the old process has finished",
        "return /serves: process \\d+, generation 2[^]*Process \\d+ has finished/.test($('dialog-steps').textContent)",
    );
    let new_pid = console.home.state().pid;
    assert_ne!(pid, new_pid);
    console.click("dialog-cancel");
    console.wait_until(
        "the facts are those of the new process",
        &format!("return $('facts').textContent.includes('{new_pid}')"),
    );
    let sent = requests.finish();
    console.wait_for_line(&format!("mark-{sent:06}"));
    let lines = console.lines();
    let marked = lines
        .iter()
        .filter(|line| is_numbered_request(line))
        .map(String::as_str);
    assert_eq!(request_numbers(marked), (1..=sent).collect::<Vec<_>>());
    assert!(!lines.iter().any(|line| line.contains("Lines are missing")));
    console.wait_until(
        "the restart is in the audit trail",
        "return /restart\\s+accepted/.test($('audit').innerText)",
    );
    console.assert_no_errors();
}

#[test]
fn stop_asks_first_and_page_reconnects_to_new_daemon() {
    if !browser_available("the console's stop") {
        return;
    }
    let console = Console::signed_in();
    let home = &console.home;
    console.click("act-stop");
    console.click("dialog-cancel");
    assert_eq!(console.run("return $('dialog').open"), false);
    home.log_request("before-the-stop");
    console.wait_for_line("before-the-stop");
    let stopped = home.daemon().unwrap();
    console.click("act-stop");
    console.click("dialog-confirm");
    assert!(stopped.wait_for_exit(DEADLINE));
    console.wait_until(
        "the dialog confirms it",
        "return $('dialog-steps').textContent.includes('stops.')",
    );
    console.click("dialog-cancel");
    console.wait_for_headline("Stopped");
    assert!(
        console
            .lines()
            .iter()
            .any(|line| line.contains("before-the-stop"))
    );

    home.run(["start"]).succeeds();
    console.wait_for_headline("Please sign in again");
    home.log_request("after-the-stop");
    console.wait_for_line("after-the-stop");
    let sign_in_again = || {
        let address = json!(console.sign_in_address());
        console
            .browser
            .run("location.href = arguments[0]; return 0", &[address]);
        console.wait_for_headline("Ready");
    };
    sign_in_again();

    let killed = home.daemon().unwrap();
    killed.kill().unwrap();
    assert!(killed.wait_for_exit(DEADLINE));
    console.wait_for_headline("Not reachable");
    home.run(["start"]).succeeds();
    console.wait_for_headline("Please sign in again");
    home.log_request("after-the-kill");
    console.wait_for_line("after-the-kill");
    sign_in_again();
    console.wait_until(
        "the last exit is shown",
        "return $('before').textContent.includes('Crashed or killed')",
    );
    let lines = console.lines();
    assert_eq!(
        lines
            .iter()
            .filter(|line| line.contains("before-the-stop"))
            .count(),
        1
    );
    assert!(!lines.iter().any(|line| line.contains("Lines are missing")));
    console.assert_no_errors_except(&[
        "401 (Unauthorized)",
        "net::ERR_CONNECTION_REFUSED",
        "net::ERR_INCOMPLETE_CHUNKED_ENCODING",
        "net::ERR_EMPTY_RESPONSE",
        "net::ERR_CONNECTION_RESET",
    ]);
}

#[test]
fn reload_and_log_level_work_from_page() {
    if !browser_available("the console's settings") {
        return;
    }
    let console = Console::signed_in();
    let home = &console.home;
    console.click("act-level");
    console.run("$('dialog-body').querySelector('select').value = 'debug'; $('dialog-body').querySelector('[type=number]').focus(); return 0");
    // Enter submits the form.
    console.wait_until_clicks_act();
    console.browser.press("Enter");
    console.wait_until(
        "the level is set",
        "return $('dialog-steps').textContent.includes('Active level: debug, for 15 minutes')",
    );
    assert_eq!(
        home.call_admin("GET", "/admin/log-level").json()["level"],
        "debug"
    );
    console.click("dialog-cancel");
    console.wait_until(
        "the level is shown",
        "return /Level\\s*debug until \\d/.test($('facts').innerText)",
    );
    // The dialog stays open and shows the error.
    console.click("act-level");
    console.run("$('dialog-body').querySelector('input').value = 'loud'; return 0");
    console.click("dialog-confirm");
    console.wait_until(
        "the level is refused",
        "return $('dialog-error').textContent.includes('`level`') && $('dialog').open",
    );
    console.click("dialog-cancel");

    home.write_env("SHUTDOWN_TIMEOUT=7s\nCHECK_INTERVAL=20s\nLOG_FORMAT=json\n");
    console.click("act-reload");
    console.click("dialog-confirm");
    console.wait_until(
        "the applied settings are shown",
        "return /Active now: SHUTDOWN_TIMEOUT: 10s → 7s[^]*Not active until a restart: LOG_FORMAT/.test($('dialog-steps').textContent)",
    );
    console.click("dialog-cancel");
    console.wait_until(
        "the pending setting is marked",
        "return [...document.querySelectorAll('#settings .waits th')].map(cell => cell.textContent).join() === 'LOG_FORMAT'",
    );
    home.write_env("SHUTDOWN_TIMEOUT=soon\n");
    console.click("act-reload");
    console.click("dialog-confirm");
    console.wait_until(
        "the reason is shown",
        "return $('dialog-error').textContent.includes('SHUTDOWN_TIMEOUT')",
    );
    console.click("dialog-cancel");
    console.assert_no_errors_except(&["400 (Bad Request)", "422 (Unprocessable Entity)"]);
}

#[test]
fn read_only_user_sees_missing_scopes() {
    if !browser_available("the console without control") {
        return;
    }
    let console = Console::signed_out();
    let printed = console.home.run(["console", "--scope", "admin:read"]);
    console.browser.open(printed.stdout.trim());
    console.wait_for_headline("Ready");
    let buttons = "return [...$('actions').children].map(button => button.disabled)";
    assert_eq!(console.run(buttons), json!([true, true, true, true]));
    assert!(console.text("may-not").contains("admin:control"));
    assert!(console.text("log-state").contains("admin:logs"));
    console.assert_no_errors();
}

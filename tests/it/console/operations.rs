//! Log, restart, stop, reload and log level.

use serde_json::json;

use super::Console;
use crate::support::{Marks, PATIENCE, eventually, is_mark, marks, needs_browser};

#[test]
fn log_is_live_filtered_paused_and_scrolled_back() {
    if !needs_browser("the console's log") {
        return;
    }
    let console = Console::open();
    let home = &console.home;
    for number in 0..2000 {
        home.mark(&format!("early-{number:04}"));
    }
    home.mark("a-live-line");
    console.has_line("a-live-line");
    // The page holds only visible rows.
    console.waits(
        "the line is visible",
        "return [...document.querySelectorAll('#window > div')].some(row => row.textContent.includes('a-live-line'))",
    );
    assert!(console.run("return $('window').childElementCount").as_u64() < Some(100));

    console.enter("contains", "early-0007");
    let matching = || {
        let lines = console.lines();
        lines.iter().filter(|line| line.contains("early-")).count()
    };
    eventually("one line matches", || matching() == 1);
    console.enter("contains", "");
    console.enter("level", "error");
    eventually("no line matches", || {
        console.run("return $('download').disabled") == true
    });
    console.enter("level", "");
    console.has_line("a-live-line");

    let top = || console.run("return $('lines').scrollTop").as_f64().unwrap();
    console.click("follow");
    assert_eq!(console.text("log-state"), "Paused");
    let held = top();
    for number in 0..50 {
        home.mark(&format!("while-held-{number}"));
    }
    console.waits(
        "new lines are counted",
        "return $('log-count').textContent.includes(' new')",
    );
    assert!((top() - held).abs() < 1.0);
    console.click("follow");
    assert_eq!(console.text("log-state"), "Live");
    console.waits("the view is at the end", "const box = $('lines'); return box.scrollTop + box.clientHeight >= box.scrollHeight - 2 && [...document.querySelectorAll('#window > div')].some(row => row.textContent.includes('while-held-49'))");

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
    let shown = console.lines();
    let early = shown.iter().filter(|line| line.contains("early-"));
    let early: Vec<_> = early
        .map(|line| line.split("early-").nth(1).unwrap()[..4].to_owned())
        .collect();
    let expected: Vec<_> = (0..2000).map(|number| format!("{number:04}")).collect();
    assert_eq!(early, expected);

    // With the keyboard: select a line, read it, return to live.
    console.run("$('lines').focus(); return 0");
    console.browser.press("Home");
    console.browser.press("ArrowDown");
    let chosen = console.run("return $($('lines').getAttribute('aria-activedescendant')).textContent.length > 0 && !$('line').hidden");
    assert_eq!(chosen, true);
    assert_eq!(console.text("line-text"), shown[1]);
    console.browser.press("End");
    assert_eq!(console.text("log-state"), "Live");
    assert_eq!(console.run("return $('line').hidden"), true);
    console.has_behaved();
}

#[test]
fn restart_from_page_leaves_no_gap_in_log() {
    if !needs_browser("the console's restart") {
        return;
    }
    let console = Console::open();
    let pid = console.home.state().pid;
    let asking = Marks::begin(console.home.public());
    console.has_line("mark-000010");
    console.click("act-restart");
    assert_eq!(console.run("return $('dialog').open"), true);
    console.click("dialog-confirm");
    console.waits(
        "the old process has finished",
        "return /serves: process \\d+, generation 2[^]*Process \\d+ has finished/.test($('dialog-steps').textContent)",
    );
    let successor = console.home.state().pid;
    assert_ne!(pid, successor);
    console.click("dialog-cancel");
    console.waits(
        "the facts are those of the new process",
        &format!("return $('facts').textContent.includes('{successor}')"),
    );
    let asked = asking.end();
    console.has_line(&format!("mark-{asked:06}"));
    let lines = console.lines();
    let shown = lines
        .iter()
        .filter(|line| is_mark(line))
        .map(String::as_str);
    assert_eq!(marks(shown), (1..=asked).collect::<Vec<_>>());
    assert!(!lines.iter().any(|line| line.contains("Lines are missing")));
    console.waits(
        "the restart is in the audit trail",
        "return /restart\\s+accepted/.test($('audit').innerText)",
    );
    console.has_behaved();
}

#[test]
fn stop_asks_first_and_page_reconnects_to_new_daemon() {
    if !needs_browser("the console's stop") {
        return;
    }
    let console = Console::open();
    let home = &console.home;
    console.click("act-stop");
    console.click("dialog-cancel");
    assert_eq!(console.run("return $('dialog').open"), false);
    home.mark("before-the-stop");
    console.has_line("before-the-stop");
    let stopped = home.daemon().unwrap();
    console.click("act-stop");
    console.click("dialog-confirm");
    assert!(stopped.wait_for_exit(PATIENCE));
    console.waits(
        "the dialog confirms it",
        "return $('dialog-steps').textContent.includes('stops.')",
    );
    console.click("dialog-cancel");
    console.says("Stopped");
    assert!(
        console
            .lines()
            .iter()
            .any(|line| line.contains("before-the-stop"))
    );

    home.run(["start"]).succeeds();
    console.says("Ready");
    home.mark("after-the-stop");
    console.has_line("after-the-stop");

    let killed = home.daemon().unwrap();
    killed.kill().unwrap();
    assert!(killed.wait_for_exit(PATIENCE));
    console.says("Not reachable");
    home.run(["start"]).succeeds();
    console.says("Ready");
    home.mark("after-the-kill");
    console.has_line("after-the-kill");
    console.waits(
        "the last exit is shown",
        "return $('before').textContent.includes('crashed, or was killed')",
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
    console.has_behaved_but_for(&[
        "net::ERR_CONNECTION_REFUSED",
        "net::ERR_INCOMPLETE_CHUNKED_ENCODING",
        "net::ERR_EMPTY_RESPONSE",
        "net::ERR_CONNECTION_RESET",
    ]);
}

#[test]
fn reload_and_log_level_work_from_page() {
    if !needs_browser("the console's settings") {
        return;
    }
    let console = Console::open();
    let home = &console.home;
    console.click("act-level");
    console.run("$('dialog-body').querySelector('select').value = 'debug'; $('dialog-body').querySelector('[type=number]').focus(); return 0");
    // Enter submits the form.
    console.browser.press("Enter");
    console.waits(
        "the level is set",
        "return $('dialog-steps').textContent.includes('debug from now on, for 15 minutes')",
    );
    assert_eq!(home.ask("GET", "/admin/log-level").json()["level"], "debug");
    console.click("dialog-cancel");
    console.waits(
        "the level is shown",
        "return /Level\\s*debug until \\d/.test($('facts').innerText)",
    );
    // The dialog stays open and shows the error.
    console.click("act-level");
    console.run("$('dialog-body').querySelector('input').value = 'loud'; return 0");
    console.click("dialog-confirm");
    console.waits(
        "the level is refused",
        "return $('dialog-error').textContent.includes('`level`') && $('dialog').open",
    );
    console.click("dialog-cancel");

    home.write_env("SHUTDOWN_TIMEOUT=7s\nCHECK_INTERVAL=20s\nLOG_FORMAT=json\n");
    console.click("act-reload");
    console.click("dialog-confirm");
    console.waits(
        "the applied settings are shown",
        "return /In force now: SHUTDOWN_TIMEOUT: 10s → 7s[^]*Waits for a restart: LOG_FORMAT/.test($('dialog-steps').textContent)",
    );
    console.click("dialog-cancel");
    console.waits(
        "the pending setting is marked",
        "return [...document.querySelectorAll('#settings .waits th')].map(cell => cell.textContent).join() === 'LOG_FORMAT'",
    );
    home.write_env("SHUTDOWN_TIMEOUT=soon\n");
    console.click("act-reload");
    console.click("dialog-confirm");
    console.waits(
        "the reason is shown",
        "return $('dialog-error').textContent.includes('SHUTDOWN_TIMEOUT')",
    );
    console.click("dialog-cancel");
    console.has_behaved_but_for(&["400 (Bad Request)", "422 (Unprocessable Entity)"]);
}

#[test]
fn read_only_user_sees_missing_scopes() {
    if !needs_browser("the console without control") {
        return;
    }
    let console = Console::closed();
    let printed = console.home.run(["console", "--scope", "admin:read"]);
    console.browser.open(printed.stdout.trim());
    console.says("Ready");
    let buttons = "return [...$('actions').children].map(button => button.disabled)";
    assert_eq!(console.run(buttons), json!([true, true, true, true]));
    assert!(console.text("may-not").contains("admin:control"));
    assert!(console.text("log-state").contains("admin:logs"));
    console.has_behaved();
}

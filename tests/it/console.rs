//! The console in a real browser, as an operator uses it.

mod accessibility;
mod errors;
mod left_behind;
mod log_view;
mod operations;
mod other_sites;
mod screenshots;
mod session;
mod throughput;

use serde_json::{Value, json};

use crate::support::{Browser, Home, eventually, free_port};

/// Records what the page offers for download.
const RECORD_DOWNLOADS: &str = "
    window.downloads = [];
    const create = URL.createObjectURL;
    URL.createObjectURL = blob => { downloads.push(blob); return create(blob); };
    window.$ = id => document.getElementById(id);
";

/// A browser that shows the console of a daemon with fixed ports.
struct Console {
    browser: Browser,
    home: Home,
}

impl Console {
    /// Nobody is signed in yet.
    fn signed_out() -> Self {
        let home = Self::home_with_fixed_ports();
        home.run(["start"]).succeeds();
        Self::with_home(home)
    }

    /// A home whose daemon keeps its ports across restarts.
    fn home_with_fixed_ports() -> Home {
        let mut home = Home::new();
        home.set("PORT", &free_port().to_string());
        home.set("ADMIN_PORT", &free_port().to_string());
        home
    }

    fn with_home(home: Home) -> Self {
        let browser = Browser::new(&home);
        browser.run_before_each_page(RECORD_DOWNLOADS);
        Self { browser, home }
    }

    /// Signed in with the address that `fullon console` prints.
    fn signed_in() -> Self {
        let console = Self::signed_out();
        console.sign_in();
        console
    }

    fn sign_in(&self) {
        self.browser.open(&self.sign_in_address());
        self.wait_for_headline("Ready");
    }

    /// Waits for the moment from which on clicks and keys of the user act.
    #[track_caller]
    fn wait_until_clicks_act(&self) {
        let script = "return !('settling' in document.documentElement.dataset)";
        self.wait_until("clicks act", script);
    }

    /// Clicks the action and confirms its dialog.
    #[track_caller]
    fn confirm(&self, action: &str) {
        self.click(action);
        self.click("dialog-confirm");
    }

    /// A new address to sign in with.
    fn sign_in_address(&self) -> String {
        let outcome = self.home.run(["console"]).succeeds();
        let address = outcome.stdout.trim().to_owned();
        assert!(address.contains("/console#token="), "{address}");
        address
    }

    #[track_caller]
    fn run(&self, script: &str) -> Value {
        self.browser.run(script, &[])
    }

    #[track_caller]
    fn text(&self, id: &str) -> String {
        let text = self
            .browser
            .run("return $(arguments[0]).innerText", &[json!(id)]);
        text.as_str().unwrap().to_owned()
    }

    #[track_caller]
    fn click(&self, id: &str) {
        self.browser
            .run("$(arguments[0]).click(); return 0", &[json!(id)]);
    }

    /// Waits for the headline.
    #[track_caller]
    fn wait_for_headline(&self, headline: &str) {
        eventually(&format!("the headline is {headline}"), || {
            self.run("return document.readyState === 'complete' && $('state') ? $('state').textContent : ''")
                == headline
        });
    }

    /// Waits until the script returns true.
    #[track_caller]
    fn wait_until(&self, what: &str, script: &str) {
        eventually(what, || self.run(script) == true);
    }

    /// All lines that the page holds, visible or not.
    #[track_caller]
    fn lines(&self) -> Vec<String> {
        let script = "
            if ($('download').disabled) return '';
            $('download').click();
            return downloads.at(-1).text();
        ";
        let text = self.run(script);
        text.as_str().unwrap().lines().map(str::to_owned).collect()
    }

    #[track_caller]
    fn wait_for_line(&self, what: &str) {
        eventually(&format!("the line with {what} arrives"), || {
            self.lines().iter().any(|line| line.contains(what))
        });
    }

    /// Fills a field as a user would.
    fn fill(&self, id: &str, text: &str) {
        let script = "
            const field = $(arguments[0]);
            field.value = arguments[1];
            field.dispatchEvent(new Event('input', { bubbles: true }));
            field.dispatchEvent(new Event('change', { bubbles: true }));
            return 0;
        ";
        self.browser.run(script, &[json!(id), json!(text)]);
    }

    /// No page had an error, and no other origin was contacted.
    #[track_caller]
    fn assert_no_errors(&self) {
        self.assert_no_errors_except(&[]);
    }

    /// The same, but ignores these failed requests, which a browser logs in any case. Requests to
    /// other origins and policy violations still fail the test.
    #[track_caller]
    fn assert_no_errors_except(&self, refusals: &[&str]) {
        let is_refusal = |complaint: &String| {
            let is_expected = |refusal: &&str| complaint.ends_with(*refusal);
            complaint.contains(" - Failed to load resource: ") && refusals.iter().any(is_expected)
                || complaint.contains(" - net::")
                    && refusals.iter().any(|refusal| complaint.contains(*refusal))
        };
        let complaints = self.browser.warnings();
        let unexpected: Vec<_> = complaints
            .iter()
            .filter(|complaint| !is_refusal(complaint))
            .collect();
        assert!(unexpected.is_empty(), "{unexpected:#?}");
        let foreign_origins = self.run(
            "return performance.getEntriesByType('resource').map(entry => new URL(entry.name).origin).filter(origin => origin !== location.origin && origin !== 'null')",
        );
        assert_eq!(foreign_origins, json!([]));
    }
}

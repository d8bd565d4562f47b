//! The console in a real browser: what an operator sees and does.

mod access;
mod looks;
mod session;
mod throughput;
mod work;

use serde_json::{Value, json};

use crate::support::{Browser, Home, eventually, free_port};

/// What the page complains about, where it asks, and what it lets the operator download.
const WATCH: &str = "
    window.reports = [];
    addEventListener('securitypolicyviolation', event => reports.push(event.violatedDirective + ' ' + event.blockedURI));
    addEventListener('error', event => reports.push(String(event.message)));
    addEventListener('unhandledrejection', event => reports.push('rejected: ' + event.reason));
    for (const name of ['error', 'warn']) {
        const said = console[name];
        console[name] = (...words) => { reports.push(name + ': ' + words.join(' ')); said(...words); };
    }
    window.downloads = [];
    const create = URL.createObjectURL;
    URL.createObjectURL = blob => { downloads.push(blob); return create(blob); };
    window.$ = id => document.getElementById(id);
";

/// A browser that shows the console of a daemon, which keeps its ports.
struct Console {
    browser: Browser,
    home: Home,
}

impl Console {
    /// Nobody has signed in yet.
    fn closed() -> Self {
        let mut home = Home::new();
        home.set("PORT", &free_port().to_string());
        home.set("ADMIN_PORT", &free_port().to_string());
        home.run(["start"]).succeeds();
        let browser = Browser::new(&home);
        browser.before_each_page(WATCH);
        Self { browser, home }
    }

    /// Signed in by the address that the command line prints.
    fn open() -> Self {
        let console = Self::closed();
        console.browser.open(&console.address());
        console.says("Ready");
        console
    }

    /// A new address to sign in by.
    fn address(&self) -> String {
        let printed = self.home.run(["console"]).succeeds();
        let address = printed.stdout.trim().to_owned();
        assert!(address.contains("/console#token="), "{address}");
        address
    }

    #[track_caller]
    fn run(&self, script: &str) -> Value {
        self.browser.run(script, &[])
    }

    /// The text of an element.
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
    fn says(&self, headline: &str) {
        eventually(&format!("the headline is {headline}"), || {
            self.run("return document.readyState === 'complete' && $('state') ? $('state').textContent : ''")
                == headline
        });
    }

    /// Waits until the script returns true.
    #[track_caller]
    fn waits(&self, what: &str, script: &str) {
        eventually(what, || self.run(script) == true);
    }

    /// All lines that the page has, visible or not.
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
    fn has_line(&self, what: &str) {
        eventually(&format!("the line with {what} arrives"), || {
            self.lines().iter().any(|line| line.contains(what))
        });
    }

    /// Puts text into a field as a person would.
    fn enter(&self, id: &str, text: &str) {
        let script = "
            const field = $(arguments[0]);
            field.value = arguments[1];
            field.dispatchEvent(new Event('input', { bubbles: true }));
            field.dispatchEvent(new Event('change', { bubbles: true }));
            return 0;
        ";
        self.browser.run(script, &[json!(id), json!(text)]);
    }

    /// Nothing went wrong in the page, and it asked nobody but its daemon.
    #[track_caller]
    fn has_behaved(&self) {
        assert_eq!(self.run("return reports"), json!([]));
        let asked = self.run(
            "return performance.getEntriesByType('resource').map(entry => new URL(entry.name).origin).filter(origin => origin !== location.origin && origin !== 'null')",
        );
        assert_eq!(asked, json!([]));
    }
}

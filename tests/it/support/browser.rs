//! A real browser: headless Chromium, driven through `chromedriver`.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{ChildStdout, Stdio};

use fullon_master_api::sys::Process;
use serde_json::{Value, json};
use thirtyfour::prelude::*;
use thirtyfour::{ChromeCapabilities, Cookie, LoggingPrefsLogLevel, WindowHandle};

use super::groups::{BROWSER, Permit};
use super::{ChildGuard, DEADLINE, Home, prerequisite_available, spawn};

/// Trades the token for the cookie, which the script cannot read.
pub const SIGN_IN_SCRIPT: &str = "
    const headers = { Authorization: 'Bearer ' + arguments[0] };
    return fetch('/admin/session', { method: 'POST', headers }).then(answer => answer.status);
";

/// Whether the test may run.
pub fn browser_available(test: &str) -> bool {
    let is_installed = std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|directory| directory.join("chromedriver").is_file())
    });
    prerequisite_available(
        test,
        "chromedriver (scripts/install-test-tools.sh)",
        is_installed,
    )
}

/// One window. Ends browser and driver when it is dropped.
pub struct Browser {
    runtime: tokio::runtime::Runtime,
    window: Option<WebDriver>,
    driver: ChildGuard,
    _permit: Permit,
    /// Kept open, because the driver may write to it.
    _output: BufReader<ChildStdout>,
}

impl Browser {
    /// A browser whose profile is in this home.
    pub fn new(home: &Home) -> Self {
        Self::with_arguments(home, &[])
    }

    /// The same with more arguments.
    pub fn with_arguments(home: &Home, arguments: &[&str]) -> Self {
        let permit = BROWSER.enter();
        let mut started = start_driver(home);
        for _ in 1..MAX_DRIVER_STARTS {
            started = started.or_else(|_| start_driver(home));
        }
        let (driver, output, port) =
            started.unwrap_or_else(|said| panic!("chromedriver did not start: {said}"));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let mut browser = Self {
            runtime,
            window: None,
            driver,
            _permit: permit,
            _output: output,
        };
        let connect = WebDriver::builder(
            format!("http://127.0.0.1:{port}"),
            capabilities(&home.path().join("browser"), arguments),
        )
        .request_timeout(DEADLINE)
        .connect();
        browser.window = Some(browser.runtime.block_on(connect).unwrap());
        browser
    }

    fn window(&self) -> &WebDriver {
        self.window.as_ref().unwrap()
    }

    /// Goes to the address, and returns when the page is loaded.
    pub fn open(&self, url: &str) {
        self.runtime.block_on(self.window().goto(url)).unwrap();
    }

    /// What the script returns; a promise is waited for.
    #[track_caller]
    pub fn run(&self, script: &str, arguments: &[Value]) -> Value {
        let result = self.window().execute(script, arguments);
        self.runtime.block_on(result).unwrap().json().clone()
    }

    /// Runs the script in each page that is opened from now on, before any script of its own.
    pub fn run_before_each_page(&self, script: &str) {
        let cdp = self.window().cdp();
        let page = cdp.page();
        let added = page.add_script_to_evaluate_on_new_document(script);
        self.runtime.block_on(added).unwrap();
    }

    /// The same in the first frame of the page, which may be of another origin.
    #[track_caller]
    pub fn run_in_frame(&self, script: &str) -> Value {
        let window = self.window();
        self.runtime.block_on(window.enter_frame(0)).unwrap();
        let result = self.run(script, &[]);
        self.runtime.block_on(window.enter_default_frame()).unwrap();
        result
    }

    /// Looks as this device and this taste would have it.
    pub fn emulate_device(&self, width: u32, height: u32, scheme: &str) {
        let size = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500,
        });
        self.command("Emulation.setDeviceMetricsOverride", size);
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.command("Emulation.setEmulatedMedia", features);
    }

    /// A command of the `DevTools` protocol.
    #[track_caller]
    pub fn command(&self, name: &str, parameters: Value) -> Value {
        let cdp = self.window().cdp();
        self.runtime
            .block_on(cdp.send_raw(name, parameters))
            .unwrap()
    }

    /// Types into what has the focus.
    pub fn press(&self, key: &str) {
        let (code, text) = match key {
            "Enter" => (13, "\r"),
            "Escape" => (27, ""),
            "End" => (35, ""),
            "Home" => (36, ""),
            "ArrowUp" => (38, ""),
            "ArrowDown" => (40, ""),
            "c" => (67, "c"),
            _ => panic!("{key} has no code here"),
        };
        for kind in ["keyDown", "keyUp"] {
            let event = json!({
                "type": kind, "key": key, "code": key, "text": text, "windowsVirtualKeyCode": code,
            });
            self.command("Input.dispatchKeyEvent", event);
        }
    }

    /// What the browser complained about since it was last asked, in any page: scripts, policies, what could not be loaded.
    #[track_caller]
    pub fn warnings(&self) -> Vec<String> {
        let log = self.window().get_log("browser");
        let log = self.runtime.block_on(log).unwrap();
        let bad = log
            .into_iter()
            .filter(|entry| ["WARNING", "SEVERE"].contains(&&*entry.level));
        bad.map(|entry| entry.message).collect()
    }

    /// Hides the page behind another window, until what is returned is dropped.
    pub fn hide_behind_new_tab(&self) -> impl Drop + '_ {
        struct InFront<'a>(&'a Browser, WindowHandle);
        impl Drop for InFront<'_> {
            fn drop(&mut self) {
                let window = self.0.window();
                let back = async {
                    window.close_window().await?;
                    window.switch_to_window(self.1.clone()).await
                };
                self.0.runtime.block_on(back).unwrap();
            }
        }
        let window = self.window();
        let open = async {
            let before = window.window().await?;
            let new = window.new_tab().await?;
            window.switch_to_window(new).await?;
            WebDriverResult::Ok(before)
        };
        InFront(self, self.runtime.block_on(open).unwrap())
    }

    /// What is seen, as PNG.
    pub fn screenshot(&self) -> Vec<u8> {
        let image = self.window().screenshot_as_png();
        self.runtime.block_on(image).unwrap()
    }

    /// Forgets all that pages of this address have left.
    pub fn clear_storage(&self, origin: &str) {
        let all = json!({ "origin": origin, "storageTypes": "all" });
        self.command("Storage.clearDataForOrigin", all);
    }

    /// The cookies that the page would send.
    pub fn cookies(&self) -> Vec<Cookie> {
        let cookies = self.window().get_all_cookies();
        self.runtime.block_on(cookies).unwrap()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if let Some(window) = self.window.take() {
            let quit = window.quit();
            let _ = self
                .runtime
                .block_on(async { tokio::time::timeout(DEADLINE, quit).await });
        }
        // Told to end, the driver ends a browser that it still has; killed, it would leave it behind.
        if let Some(driver) = Process::open(self.driver.0.id())
            && driver.terminate().is_ok()
        {
            let _ = driver.wait_for_exit(DEADLINE);
        }
    }
}

/// How often a driver is started: it looks for a port that is free with IPv6, and ends when it is not with IPv4.
const MAX_DRIVER_STARTS: usize = 5;

/// A driver, its output, and the port that it took; or what it said before it ended.
fn start_driver(home: &Home) -> Result<(ChildGuard, BufReader<ChildStdout>, u16), String> {
    let mut command = home.command("chromedriver");
    command.arg("--port=0").env("TMPDIR", home.path());
    let mut driver = spawn(command.stdout(Stdio::piped()).stderr(Stdio::null()));
    let mut output = BufReader::new(driver.0.stdout.take().unwrap());
    let mut said = String::new();
    while output.read_line(&mut said).unwrap() > 0 {
        let line = said.lines().last().unwrap_or_default();
        if let Some((_, port)) = line.split_once("started successfully on port ") {
            let port = port.trim_end_matches('.').parse().unwrap();
            return Ok((driver, output, port));
        }
    }
    Err(said)
}

fn capabilities(profile: &Path, more: &[&str]) -> ChromeCapabilities {
    let mut capabilities = DesiredCapabilities::chrome();
    let profile = format!("--user-data-dir={}", profile.display());
    let mut arguments = vec![
        "--headless=new",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--no-proxy-server",
        &profile,
    ];
    if nix::unistd::geteuid().is_root() {
        // Chromium refuses to be root in its sandbox.
        arguments.push("--no-sandbox");
    }
    for argument in arguments.iter().chain(more) {
        capabilities.add_arg(argument).unwrap();
    }
    capabilities
        .set_logging_prefs("browser", LoggingPrefsLogLevel::All)
        .unwrap();
    capabilities
}

//! A real browser: headless Chromium, driven through `chromedriver`.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{ChildStdout, Stdio};

use fullon_master_api::sys::Process;
use serde_json::{Value, json};
use thirtyfour::prelude::*;
use thirtyfour::{ChromeCapabilities, Cookie, LoggingPrefsLogLevel, WindowHandle};

use super::groups::{BROWSER, Permit};
use super::{ChildGuard, DEADLINE, Home, eventually, prerequisite_available, spawn};

/// A script that exchanges the token for a session, whose values it keeps as the console does.
/// Returns the status.
pub const SIGN_IN_SCRIPT: &str = "
    const headers = { Authorization: 'Bearer ' + arguments[0] };
    return fetch('/admin/session', { method: 'POST', headers }).then(async answer => {
        sessionStorage['fullon-session'] = await answer.text();
        return answer.status;
    });
";

/// The headers of a request with the session of [`SIGN_IN_SCRIPT`], if there is one.
pub const SESSION_HEADERS: &str =
    "{ 'X-Fullon-Session': JSON.parse(sessionStorage['fullon-session'] ?? '{}').session ?? '-' }";

/// Whether a browser is installed. Reports the test as skipped if not.
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

/// A browser window. Dropping it ends the browser and its driver.
pub struct Browser {
    runtime: tokio::runtime::Runtime,
    window: Option<WebDriver>,
    driver: ChildGuard,
    _permit: Permit,
    /// Kept open, because the driver may write to it.
    _output: BufReader<ChildStdout>,
}

impl Browser {
    /// Starts a browser with its profile in this home.
    pub fn new(home: &Home) -> Self {
        Self::with_arguments(home, &[])
    }

    /// Starts a browser with additional arguments.
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

    /// Opens the address and waits until the page is loaded.
    pub fn open(&self, url: &str) {
        self.runtime.block_on(self.window().goto(url)).unwrap();
    }

    /// Runs the script and returns its result. Waits if that is a promise.
    #[track_caller]
    pub fn run(&self, script: &str, arguments: &[Value]) -> Value {
        let result = self.window().execute(script, arguments);
        self.runtime.block_on(result).unwrap().json().clone()
    }

    /// From now on, runs the script in each page before the scripts of the page.
    pub fn run_before_each_page(&self, script: &str) {
        let cdp = self.window().cdp();
        let page = cdp.page();
        let added = page.add_script_to_evaluate_on_new_document(script);
        self.runtime.block_on(added).unwrap();
    }

    /// Runs the script in the first frame of the page, which may have another origin.
    #[track_caller]
    pub fn run_in_frame(&self, script: &str) -> Value {
        let window = self.window();
        self.runtime.block_on(window.enter_frame(0)).unwrap();
        let result = self.run(script, &[]);
        self.runtime.block_on(window.enter_default_frame()).unwrap();
        result
    }

    /// Emulates a screen size in pixels and a colour scheme.
    pub fn emulate_device(&self, width: u32, height: u32, scheme: &str) {
        let size = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500,
        });
        self.command("Emulation.setDeviceMetricsOverride", size);
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.command("Emulation.setEmulatedMedia", features);
    }

    /// Sends a command of the `DevTools` protocol.
    #[track_caller]
    pub fn command(&self, name: &str, parameters: Value) -> Value {
        let cdp = self.window().cdp();
        self.runtime
            .block_on(cdp.send_raw(name, parameters))
            .unwrap()
    }

    /// Sends a key press to the focused element.
    pub fn press(&self, key: &str) {
        let (code, text) = match key {
            "Enter" => (13, "\r"),
            "Escape" => (27, ""),
            "End" => (35, ""),
            "Home" => (36, ""),
            "ArrowUp" => (38, ""),
            "ArrowDown" => (40, ""),
            "c" => (67, "c"),
            " " => (32, " "),
            _ => panic!("{key} has no code here"),
        };
        for kind in ["keyDown", "keyUp"] {
            let event = json!({
                "type": kind, "key": key, "code": key, "text": text, "windowsVirtualKeyCode": code,
            });
            self.command("Input.dispatchKeyEvent", event);
        }
    }

    /// Presses and releases the mouse on the element, as click number `count` at this place.
    pub fn click_with_mouse(&self, id: &str, count: u32) {
        let script = "
            const box = document.getElementById(arguments[0]).getBoundingClientRect();
            return [box.x + box.width / 2, box.y + box.height / 2];
        ";
        let at = self.run(script, &[json!(id)]);
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({
                "type": kind, "x": at[0], "y": at[1], "button": "left", "clickCount": count,
            });
            self.command("Input.dispatchMouseEvent", event);
        }
    }

    /// Loads the page again, as the user does.
    pub fn reload(&self) {
        self.runtime.block_on(self.window().refresh()).unwrap();
    }

    /// Switches to the window that the page opens for this address, until the returned guard is
    /// dropped, which closes the window.
    pub fn open_window(&self, url: &str) -> impl Drop + '_ {
        let window = self.window();
        let handles = || self.runtime.block_on(window.windows()).unwrap();
        let before = self.runtime.block_on(window.window()).unwrap();
        let known = handles();
        self.run(
            "open(arguments[0], 'popup', 'width=420'); return 0",
            &[json!(url)],
        );
        let mut new = None;
        eventually("the window is open", || {
            new = handles().into_iter().find(|handle| !known.contains(handle));
            new.is_some()
        });
        self.runtime
            .block_on(window.switch_to_window(new.unwrap()))
            .unwrap();
        InFront(self, before)
    }

    /// Warnings and errors that the browser logged since the last call, in any page.
    #[track_caller]
    pub fn warnings(&self) -> Vec<String> {
        let log = self.window().get_log("browser");
        let log = self.runtime.block_on(log).unwrap();
        let bad = log
            .into_iter()
            .filter(|entry| ["WARNING", "SEVERE"].contains(&&*entry.level));
        bad.map(|entry| entry.message).collect()
    }

    /// Hides the page behind a new tab until the returned guard is dropped.
    pub fn hide_behind_new_tab(&self) -> impl Drop + '_ {
        let window = self.window();
        let open = async {
            let before = window.window().await?;
            let new = window.new_tab().await?;
            window.switch_to_window(new).await?;
            WebDriverResult::Ok(before)
        };
        InFront(self, self.runtime.block_on(open).unwrap())
    }

    /// A screenshot as PNG.
    pub fn screenshot(&self) -> Vec<u8> {
        let image = self.window().screenshot_as_png();
        self.runtime.block_on(image).unwrap()
    }

    /// Deletes everything that pages of this origin stored.
    pub fn clear_storage(&self, origin: &str) {
        let all = json!({ "origin": origin, "storageTypes": "all" });
        self.command("Storage.clearDataForOrigin", all);
    }

    /// The cookies of the page.
    pub fn cookies(&self) -> Vec<Cookie> {
        let cookies = self.window().get_all_cookies();
        self.runtime.block_on(cookies).unwrap()
    }
}

/// A window in front of another one, to which the browser returns.
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

impl Drop for Browser {
    fn drop(&mut self) {
        if let Some(window) = self.window.take() {
            let quit = window.quit();
            let _ = self
                .runtime
                .block_on(async { tokio::time::timeout(DEADLINE, quit).await });
        }
        // On SIGTERM the driver ends its browser. On SIGKILL the browser would remain.
        if let Some(driver) = Process::open(self.driver.0.id())
            && driver.terminate().is_ok()
        {
            let _ = driver.wait_for_exit(DEADLINE);
        }
    }
}

/// The driver chooses a port that is free with IPv6 and exits if IPv4 uses it.
const MAX_DRIVER_STARTS: usize = 5;

/// Starts a driver. Returns it with its output and port, or the output of a driver that failed.
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
        // The sandbox of Chromium refuses to run as root.
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

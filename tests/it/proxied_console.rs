//! The console through a TLS proxy, with the configurations of `docs/reverse-proxies.md`.

use std::fs;

use serde_json::json;
use thirtyfour::cookie::SameSite;

use crate::support::{
    Browser, Certificate, Home, Proxy, ProxyProgram, browser_available, documented_configuration,
    eventually, request,
};

const HOST: &str = "fullon.example.com";
const SECTION: &str = "The console over TLS";

pub fn origin(host: &str, proxy: &Proxy) -> String {
    format!("https://{host}:{}", proxy.port)
}

/// With the configuration in a section of the page, for this host. `header` is the value of `Host`
/// for the daemon.
pub fn start_nginx(home: &Home, section: &str, host: &str, header: &str) -> Option<Proxy> {
    let certificate = Certificate::create(home.path(), "nginx");
    let [pem, key] = [certificate.certificate(), certificate.key()];
    ProxyProgram::Nginx.start("the console through nginx", home, |port| {
        let replacements = [
            ("443", &*format!("127.0.0.1:{port}")),
            (&*format!("/etc/ssl/{host}.pem"), pem.to_str().unwrap()),
            (
                &*format!("/etc/ssl/private/{host}.key"),
                key.to_str().unwrap(),
            ),
            ("127.0.0.1:8001", &home.admin_address()),
        ];
        let text = documented_configuration(section, "nginx", &replacements);
        let text = text.replace("$http_host", header);
        text.replace("127.0.0.1:8000", &home.public_address())
    })
}

fn start_caddy(home: &Home) -> Option<Proxy> {
    let certificate = Certificate::create(home.path(), "caddy");
    let [pem, key] = [certificate.certificate(), certificate.key()];
    ProxyProgram::Caddy.start("the console through Caddy", home, |port| {
        let site = format!(
            "https://{HOST}:{port} {{\n    bind 127.0.0.1\n    tls {} {}",
            pem.display(),
            key.display()
        );
        let replacements = [
            ("fullon.example.com {", &*site),
            ("127.0.0.1:8001", &home.admin_address()),
        ];
        documented_configuration(SECTION, "caddyfile", &replacements)
    })
}

pub fn browser(home: &Home, host: &str) -> Browser {
    let browser = Browser::with_arguments(
        home,
        &[
            &format!("--host-resolver-rules=MAP {host} 127.0.0.1"),
            "--ignore-certificate-errors",
        ],
    );
    browser.run_before_each_page("window.$ = id => document.getElementById(id);");
    browser
}

/// Sets `ADMIN_ORIGINS` while the daemon runs.
pub fn set_admin_origins(home: &Home, value: &str) {
    fs::write(home.path().join(".env"), format!("ADMIN_ORIGINS={value}\n")).unwrap();
    home.run(["reload"]).succeeds();
}

fn is_shown(browser: &Browser, text: &str) -> bool {
    let shown = browser.run("return document.body?.innerText ?? ''", &[]);
    shown.as_str().unwrap().contains(text)
}

pub fn wait_for(browser: &Browser, text: &str) {
    eventually(&format!("the page shows {text}"), || {
        is_shown(browser, text)
    });
}

/// Signs in, follows the log, and loads the page again.
pub fn use_console(home: &Home, browser: &Browser, origin: &str, has_secure_cookie: bool) {
    let address = home.run(["console"]).succeeds().stdout;
    let (_, fragment) = address.trim().split_once("/console#").unwrap();
    browser.open("about:blank");
    browser.open(&format!("{origin}/console#{fragment}"));
    wait_for(browser, "Ready");
    assert!(!is_shown(browser, "did not load"));
    home.log_request("through-the-proxy");
    wait_for(browser, "through-the-proxy");
    let cookies = browser.cookies();
    assert_eq!(cookies.len(), 1, "{cookies:?}");
    let cookie = &cookies[0];
    assert_eq!(cookie.secure, Some(has_secure_cookie), "{cookie:?}");
    let is_prefixed = cookie.name.starts_with("__Host-fullon-session-");
    assert_eq!(is_prefixed, has_secure_cookie, "{cookie:?}");
    assert_eq!(cookie.same_site, Some(SameSite::Strict));
    assert_eq!(cookie.http_only, Some(true));

    browser.open(&format!("{origin}/console"));
    wait_for(browser, "Ready");
    home.log_request("after-the-reload");
    wait_for(browser, "after-the-reload");
    // A change needs an own `Origin`.
    browser.run(
        "$('act-level').click(); $('dialog-confirm').click(); return 0",
        &[],
    );
    wait_for(browser, "for 15 minutes");
    browser.run(
        "$('dialog-cancel').click(); $('sign-out').click(); return 0",
        &[],
    );
    wait_for(browser, "Not signed in");
    assert_eq!(browser.cookies().len(), 0);
    // Requests that were in flight when the session ended are refused.
    let mut warnings = browser.warnings();
    warnings.retain(|warning| !warning.ends_with("a status of 401 ()"));
    assert_eq!(warnings, [""; 0]);
}

#[test]
fn console_works_through_nginx_once_its_origin_is_listed() {
    if !browser_available("the console through nginx") {
        return;
    }
    let home = Home::started();
    let Some(proxy) = start_nginx(&home, SECTION, HOST, "$http_host") else {
        return;
    };
    let browser = browser(&home, HOST);
    // Not listed: the page says what to do.
    browser.open(&format!("{}/console", origin(HOST, &proxy)));
    let line = format!("ADMIN_ORIGINS, such as {}", origin(HOST, &proxy));
    wait_for(&browser, &line);
    let _ = browser.warnings();

    set_admin_origins(&home, &origin(HOST, &proxy));
    use_console(&home, &browser, &origin(HOST, &proxy), true);
    // The documentation is a page of the same origin.
    browser.open(&format!("{}/admin/docs", origin(HOST, &proxy)));
    wait_for(&browser, "/admin/status");

    set_admin_origins(&home, "https://another.example");
    browser.open(&format!("{}/console", origin(HOST, &proxy)));
    wait_for(&browser, &line);
}

/// The default of nginx: `Host` is the address of the daemon.
#[test]
fn console_works_through_nginx_that_replaces_host() {
    if !browser_available("the console through nginx") {
        return;
    }
    let home = Home::started();
    let Some(proxy) = start_nginx(&home, SECTION, HOST, "$proxy_host") else {
        return;
    };
    let browser = browser(&home, HOST);
    browser.open(&format!("{}/console", origin(HOST, &proxy)));
    // Chromium sends `Origin` for the script of the page, which is refused.
    eventually("the page says that its script did not load", || {
        let shown = "return getComputedStyle($('no-script')).visibility";
        browser.run(shown, &[]) == "visible"
    });
    let _ = browser.warnings();
    set_admin_origins(&home, &origin(HOST, &proxy));
    use_console(&home, &browser, &origin(HOST, &proxy), true);
}

#[test]
fn console_works_through_caddy() {
    if !browser_available("the console through Caddy") {
        return;
    }
    let home = Home::started();
    let Some(proxy) = start_caddy(&home) else {
        return;
    };
    let browser = browser(&home, HOST);
    set_admin_origins(&home, &origin(HOST, &proxy));
    use_console(&home, &browser, &origin(HOST, &proxy), true);
}

#[test]
fn refused_address_is_a_page_for_people_and_a_problem_for_programs() {
    let home = Home::started();
    let host = home.admin_address();
    let ask = |method: &str, path: &str, headers: &[(&str, &str)]| {
        request(&host, method, path, headers, "")
    };
    let foreign = ("Host", "fullon.example.com");
    let page = ask(
        "GET",
        "/console",
        &[foreign, ("Accept", "text/html,*/*;q=0.8")],
    );
    assert_eq!(page.status, 403);
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    for text in [
        "ADMIN_ORIGINS",
        "https://fullon.example.com",
        "fullon reload",
    ] {
        assert!(page.body.contains(text), "{page:#?}");
    }
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    for headers in [
        &[foreign][..],
        &[foreign, ("Accept", "text/html"), ("Sec-Fetch-Mode", "cors")],
    ] {
        let answer = ask("GET", "/admin/status", headers);
        answer.assert_problem(403, "ADMIN_ORIGINS, such as https://fullon.example.com");
    }
    let origin = ("Origin", "https://fullon.example.com");
    ask("GET", "/console/main.js", &[origin]).assert_problem(
        403,
        "`https://fullon.example.com` is the console behind a proxy",
    );
    // Nothing of the request becomes part of the page.
    for (host, status) in [
        ("<script>alert(1)</script>", 400),
        ("a&b", 403),
        ("a\"b", 400),
    ] {
        let page = ask("GET", "/", &[("Host", host), ("Accept", "text/html")]);
        assert_eq!(page.status, status);
        assert!(!page.body.contains(host), "{page:#?}");
    }

    set_admin_origins(&home, "https://fullon.example.com");
    for headers in [&[foreign][..], &[origin], &[foreign, origin]] {
        assert_eq!(ask("GET", "/console", headers).status, 200, "{headers:?}");
    }
    let token = format!("Bearer {}", home.token("admin:read"));
    let bearer = ("Authorization", token.as_str());
    let created = ask("POST", "/admin/session", &[foreign, origin, bearer]);
    assert!(created.cookie().starts_with("__Host-fullon-session="));
    for other in ["http://fullon.example.com", "https://x.fullon.example.com"] {
        ask(
            "POST",
            "/admin/session",
            &[foreign, ("Origin", other), bearer],
        )
        .assert_problem(403, "other origins");
    }
    let site = ("Sec-Fetch-Site", "cross-site");
    ask("GET", "/admin/status", &[foreign, bearer, site]).assert_problem(403, "other origins");
    assert_eq!(json!(home.call_admin("GET", "/admin/config").status), 200);
}

#[test]
fn invalid_origin_is_named() {
    let mut home = Home::new();
    home.set(
        "ADMIN_ORIGINS",
        "https://good.example, https://bad.example/console",
    );
    home.run(["start"]).exits(2).stderr_contains(&[
        "ADMIN_ORIGINS: `https://bad.example/console` is an address with a path",
        "SCHEME://HOST",
    ]);
    home.set("ADMIN_ORIGINS", "https://me:hunter2@a.example");
    let outcome = home.run(["start"]).exits(2);
    let outcome = outcome.stderr_contains(&["ADMIN_ORIGINS: has a user name or a password"]);
    assert!(!outcome.stderr.contains("hunter2"), "{outcome:#?}");
}

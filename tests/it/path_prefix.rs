//! Pages and redirects behind a proxy that removes a path prefix.

use crate::browser::try_out;
use crate::proxied_console::{
    browser, origin, set_admin_origins, start_nginx, use_console, wait_for,
};
use crate::support::{Home, browser_available, eventually, request};

#[test]
fn slash_at_the_end_is_redirected() {
    let home = Home::started();
    let (public, admin) = (home.public_address(), home.admin_address());
    let location = |host: &str, method: &str, path: &str| {
        let answer = request(host, method, path, &[], "");
        let location = answer.header("location").map(str::to_owned);
        (answer.status, location.unwrap_or_default())
    };
    for (host, path, expected) in [
        (&public, "/docs/", "../docs"),
        (&public, "/docs/?a=b&c", "../docs?a=b&c"),
        (&public, "/health/", "../health"),
        (&public, "/health/live/", "../live"),
        (&public, "/openapi.json/", "../openapi.json"),
        (&admin, "/console/", "../console"),
        (&admin, "/admin/", "../admin"),
        (&admin, "/admin/docs/", "../docs"),
        (&admin, "/admin/status/", "../status"),
        (
            &admin,
            "/admin/sessions/evil.example:80/",
            "../evil.example:80",
        ),
    ] {
        for method in ["GET", "HEAD", "POST"] {
            let expected = (308, expected.to_owned());
            assert_eq!(location(host, method, path), expected, "{method} {path}");
        }
    }
    for (host, path) in [
        (&public, "/nothing/"),
        (&public, "/docs//"),
        (&public, "//"),
        (&public, "//docs/"),
        (&public, "//evil.example/"),
        (&public, "/console/"),
        (&admin, "/admin/nothing/"),
        (&admin, "//evil.example/console/"),
    ] {
        assert_eq!(location(host, "GET", path), (404, String::new()), "{path}");
    }
    for path in ["/", "/admin"] {
        let expected = (302, "console".to_owned());
        assert_eq!(location(&admin, "GET", path), expected, "{path}");
    }
}

#[test]
fn page_for_links_of_other_sites_has_a_relative_script() {
    let home = Home::started();
    let headers = [
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Mode", "navigate"),
        ("Sec-Fetch-Dest", "document"),
    ];
    for (path, script) in [
        ("/console", "./console/arrival.js"),
        ("/admin/docs", "../console/arrival.js"),
    ] {
        let page = request(&home.admin_address(), "GET", path, &headers, "").body;
        assert!(page.contains(&format!("src=\"{script}\"")), "{page}");
    }
}

#[test]
fn pages_work_behind_a_path_prefix() {
    if !browser_available("the pages behind a path prefix") {
        return;
    }
    let home = Home::started();
    let Some(proxy) = start_nginx(&home, "A path prefix", "www.example.com", "$http_host") else {
        return;
    };
    let origin = origin("www.example.com", &proxy);
    set_admin_origins(&home, &origin);
    let browser = browser(&home, "www.example.com");
    let wait_for_address = |expected: &str| {
        eventually(&format!("the page is {expected}"), || {
            browser.run("return location.href", &[]) == expected
        });
    };

    browser.open(&format!("{origin}/api/docs/"));
    wait_for_address(&format!("{origin}/api/docs"));
    assert_eq!(try_out(&browser, "get_health"), "200");
    wait_for(&browser, &format!("{origin}/api/health"));

    let console = format!("{origin}/fullon");
    browser.open(&format!("{console}/"));
    wait_for_address(&format!("{console}/console"));
    wait_for(&browser, "Not signed in");
    use_console(&home, &browser, &console, true);

    // Links that nginx would change: the page would load its scripts from another folder.
    for path in [
        "//fullon/console",
        "/uploads/x%2F..%2F..%2Ffullon%2Fconsole",
        "/fullon/console%2F",
        "/fullon%5Cconsole",
    ] {
        browser.open("about:blank");
        let link = format!("{origin}{path}");
        browser.run("location.href = arguments[0]; return 0", &[link.into()]);
        wait_for(&browser, "400 Bad Request");
    }

    let address = home.run(["console"]).succeeds().stdout;
    let (_, fragment) = address.trim().split_once("/console#").unwrap();
    browser.open(&format!("{console}/console/#{fragment}"));
    wait_for(&browser, "Ready");
    browser.open(&format!("{console}/admin/docs/"));
    wait_for_address(&format!("{console}/admin/docs"));
    assert_eq!(try_out(&browser, "get_status"), "200");
    wait_for(&browser, &format!("{console}/admin/status"));
}

//! The screenshots of the README. `SCREENSHOTS=1` replaces the files.

use std::path::Path;

use serde_json::json;

use super::Console;
use crate::support::{
    NumberedRequests, Redis, browser_available, dependencies_available, eventually,
    prerequisite_available,
};

const IMAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/images");

#[test]
fn screenshots_are_taken() {
    let has_browser = browser_available("pictures of the console");
    if !has_browser
        || !prerequisite_available("console::screenshots", "Redis", dependencies_available())
    {
        return;
    }
    let mut home = Console::home_with_fixed_ports();
    let redis = Redis::start();
    home.depends_on(&redis);
    home.run(["start"]).succeeds();
    let console = Console::with_home(home);
    let requests = NumberedRequests::start(console.home.public_address());
    console.sign_in();
    let is_recording = std::env::var_os("SCREENSHOTS").is_some();
    let min_points = if is_recording { 12 } else { 4 };
    let is_drawn = format!(
        "return [...document.querySelectorAll('#figures path')].filter(path => path.getAttribute('d').split('L').length > {min_points}).length >= 7"
    );
    console.wait_until("the charts are drawn", &is_drawn);
    assert!(console.text("checks").contains("redis"));
    requests.finish();
    for (name, width, height, scheme) in [
        ("console-light", 1280, 1000, "light"),
        ("console-dark", 1280, 1000, "dark"),
        ("console-phone", 360, 780, "light"),
    ] {
        console.browser.emulate_device(width, height, scheme);
        console.browser.run("scrollTo(0, 0); return 0", &[]);
        eventually("the window has this width", || {
            console.browser.run("return innerWidth", &[]) == json!(width)
        });
        let image = console.browser.screenshot();
        assert!(image.starts_with(b"\x89PNG") && image.len() > 10_000);
        if is_recording {
            std::fs::create_dir_all(IMAGES).unwrap();
            std::fs::write(Path::new(IMAGES).join(name).with_extension("png"), image).unwrap();
        }
    }
    console.assert_no_errors();
}

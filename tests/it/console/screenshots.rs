//! The screenshots of the README. `SCREENSHOTS=1` replaces the files.

use std::path::Path;

use serde_json::json;

use super::Console;
use crate::support::{Marks, Redis, can_serve, eventually, may_run, needs_browser};

const PICTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/images");

#[test]
fn screenshots_are_taken() {
    let is_there = needs_browser("pictures of the console");
    if !is_there || !may_run("console::screenshots", "Redis", can_serve()) {
        return;
    }
    let mut home = Console::home();
    let redis = Redis::start();
    home.depends_on(&redis);
    home.run(["start"]).succeeds();
    let console = Console::of(home);
    let asking = Marks::begin(console.home.public());
    console.sign_in();
    let is_for_show = std::env::var_os("SCREENSHOTS").is_some();
    let points = if is_for_show { 12 } else { 4 };
    let is_drawn = format!(
        "return [...document.querySelectorAll('#figures path')].filter(path => path.getAttribute('d').split('L').length > {points}).length >= 7"
    );
    console.waits("the charts are drawn", &is_drawn);
    assert!(console.text("checks").contains("redis"));
    asking.end();
    for (name, width, height, scheme) in [
        ("console-light", 1280, 1000, "light"),
        ("console-dark", 1280, 1000, "dark"),
        ("console-phone", 360, 780, "light"),
    ] {
        console.browser.look(width, height, scheme);
        console.browser.run("scrollTo(0, 0); return 0", &[]);
        eventually("the window has this width", || {
            console.browser.run("return innerWidth", &[]) == json!(width)
        });
        let picture = console.browser.screenshot();
        assert!(picture.starts_with(b"\x89PNG") && picture.len() > 10_000);
        if is_for_show {
            std::fs::create_dir_all(PICTURES).unwrap();
            std::fs::write(
                Path::new(PICTURES).join(name).with_extension("png"),
                picture,
            )
            .unwrap();
        }
    }
    console.has_behaved();
}

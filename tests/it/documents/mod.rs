//! The console blocks of the README and of `docs`: each command is run, and prints what the page
//! says. `make docs` (`UPDATE_DOCS=1`) writes what it printed where the page says something else.
//!
//! A page is one bash session, from its first block to its last, by user `me` in an empty home. It
//! has processes, network and `/tmp` of its own, so the ports are those that the page names. Blocks
//! in other languages than `console` are not run.

mod page;
mod sandbox;
mod shape;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use page::Page;

use crate::support::{HEAVY, prerequisite_available, running_as_root, tools_directory};

fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages: Vec<PathBuf> = fs::read_dir(root.join("docs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    pages.push(root.join("README.md"));
    pages.sort();
    pages
}

/// Runs the page. Returns how many commands it has, and where its output differs.
fn check(path: &Path, update: bool) -> (usize, String) {
    let page = Page::read(path);
    let mut differences = String::new();
    if page.commands.is_empty() {
        return (0, differences);
    }
    let outputs = sandbox::run(&page.commands);
    let mut printed = Vec::new();
    for (command, output) in page.commands.iter().zip(outputs) {
        let is_as_expected = shape::matches(&command.expected, &output);
        if !is_as_expected {
            writeln!(
                differences,
                "{}:{}: $ {}\n--- the page says\n{}\n--- printed\n{}\n",
                path.display(),
                command.line,
                command.text,
                command.expected.join("\n"),
                output.join("\n")
            )
            .unwrap();
        }
        printed.push(
            if is_as_expected && shape::has_wildcard(&command.expected) {
                command.expected.clone()
            } else {
                output
            },
        );
    }
    // All outputs of a page come from one session, so that its PIDs agree.
    if update && !differences.is_empty() {
        page.write(path, &printed);
    }
    (page.commands.len(), differences)
}

#[test]
fn console_blocks_print_what_the_pages_say() {
    let needed = "uvicorn (scripts/install-test-tools.sh)";
    let has_uvicorn = tools_directory().join("bin/uvicorn").exists();
    if !running_as_root("console blocks")
        || !prerequisite_available("console blocks", needed, has_uvicorn)
    {
        return;
    }
    let _permit = HEAVY.enter();
    let update = std::env::var_os("UPDATE_DOCS").is_some();
    let only = std::env::var("PAGE").ok();
    let mut differences = String::new();
    for path in pages() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if only.as_ref().is_some_and(|only| *only != name) {
            continue;
        }
        let (commands, found) = check(&path, update);
        println!("{name}: {commands} commands");
        differences.push_str(&found);
    }
    if update {
        println!("updated:\n{differences}");
    } else {
        assert!(
            differences.is_empty(),
            "{differences}`make docs` writes what was printed into the pages"
        );
    }
}

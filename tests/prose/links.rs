//! Links of Markdown pages.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::{files, name, root};

/// The targets of `[text](target)`, outside of code blocks.
fn targets(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in prose(page) {
        let mut rest = line;
        while let Some(at) = rest.find("](") {
            rest = &rest[at + 2..];
            let end = rest.find(')').unwrap_or(rest.len());
            found.push(rest[..end].to_owned());
        }
        if let Some(image) = line.split("<img src=\"").nth(1) {
            found.push(image.split('"').next().unwrap_or_default().to_owned());
        }
    }
    found
}

/// The lines outside of code blocks.
pub fn prose(page: &str) -> impl Iterator<Item = &str> {
    let mut in_block = false;
    page.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        in_block ^= fence;
        !in_block && !fence
    })
}

/// The anchors of the headings, as GitHub makes them.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = prose(page).filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

fn problem(page: &Path, target: &str) -> Option<String> {
    if target.starts_with("https://") || target.starts_with("http://") {
        return None;
    }
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let path = if file.is_empty() {
        page.to_owned()
    } else {
        page.parent().unwrap().join(file)
    };
    if !path.exists() {
        return Some(format!("{}: {target}: there is no such file", name(page)));
    }
    if anchor.is_empty() || anchors(&fs::read_to_string(path).unwrap()).contains(anchor) {
        return None;
    }
    Some(format!(
        "{}: {target}: there is no such heading",
        name(page)
    ))
}

#[test]
fn links_of_pages_lead_somewhere() {
    let mut checked = 0;
    let mut problems = Vec::new();
    for page in files(root(), &["md"]) {
        for target in targets(&fs::read_to_string(&page).unwrap()) {
            checked += 1;
            problems.extend(problem(&page, &target));
        }
    }
    println!("{checked} links");
    assert!(checked > 0 && problems.is_empty(), "{problems:#?}");
}

#[test]
fn each_page_of_docs_is_in_the_index() {
    let docs = root().join("docs");
    let index = targets(&fs::read_to_string(docs.join("README.md")).unwrap());
    for page in files(&docs, &["md"]) {
        let file = page.file_name().unwrap().to_string_lossy().into_owned();
        assert!(
            file == "README.md" || index.contains(&file),
            "docs/README.md does not link to {file}"
        );
    }
}

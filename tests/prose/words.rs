//! Words that the glossary replaces, and sentences that begin with a clause.

use std::fs;
use std::path::Path;

use regex::Regex;

use crate::{files, name, root};

/// Patterns, and the words to use in their place.
const REPLACED: [(&str, &str); 15] = [
    (
        r"\b(no longer|does not|do not|still) counts?\b|\b(that|which) counts?[.,;:)]|\bcounts for\b",
        "is valid, is accepted",
    ),
    (r"\b(now )?in force\b", "active"),
    (r"\bmend(s|ed|ing)?\b", "fix"),
    (r"\banew\b", "again"),
    (r"\bstrangers?\b", "another process, another program"),
    (r"\b[Pp]redecessors?\b", "old process"),
    (
        r"\bwhoever\b|\bwho asks\b|\bwho follows\b",
        "the client, the caller, followers",
    ),
    (
        r"\b(gives?|gave) way\b|\bmakes room\b",
        "is closed to make room for",
    ),
    (r"\bgo(es)? on\b|\bwent on\b", "continues"),
    (
        r"\b(is|are|was|be) told\b|\bhears? of\b",
        "reports, receives, notices",
    ),
    (
        r"\b(is|are) looked at\b|\b(is|are) asked\b",
        "is checked, is probed",
    ),
    (r"\bverbs?\b", "command"),
    (r"\bhead of (a|the) request\b", "request headers"),
    (r"^(What|Whoever|Who) [^?]*$", "a noun"),
    (
        r"(^|[.:] +)(What|Whoever) [a-z' ]+ (is|are|has|have|does|was|can|may|must|needs?|takes?|gives?)\b[^?]*[.,]",
        "a subject that is a noun",
    ),
];

/// Uses that the patterns match and that are right, with the reason.
const ALLOWED: [(&str, &str); 1] = [("CONTRIBUTING.md", "names the words")];

/// The prose of a file: Markdown outside of blocks; comments and texts in quotes of code.
fn prose(path: &Path, text: &str) -> Vec<(usize, String)> {
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    let lines = text.lines().enumerate();
    let mut in_block = false;
    lines
        .filter_map(|(index, line)| {
            let trimmed = line.trim_start();
            let part = match &*extension {
                "md" => {
                    let fence = trimmed.starts_with("```");
                    in_block ^= fence;
                    (!in_block && !fence).then(|| line.to_owned())
                }
                "rs" | "js" | "ts" if trimmed.starts_with("//") => {
                    Some(trimmed.trim_start_matches(['/', '!', ' ']).to_owned())
                }
                "rs" | "js" | "ts" | "py" => Some(quoted(line)),
                _ => Some(line.to_owned()),
            };
            part.map(|part| (index + 1, part))
        })
        .collect()
}

/// The texts in double quotes of a line of code.
fn quoted(line: &str) -> String {
    line.split('"')
        .skip(1)
        .step_by(2)
        .collect::<Vec<_>>()
        .join(" ")
}

/// The longest line of Markdown prose, in characters. Tables, headings, and links that cannot be
/// broken may be longer.
const MAX_COLUMNS: usize = 100;

#[test]
fn lines_of_pages_end_at_100_columns() {
    let mut found = Vec::new();
    for path in files(root(), &["md"]) {
        for (line, text) in prose(&path, &fs::read_to_string(&path).unwrap()) {
            let is_breakable = text.trim_start_matches(['-', ' ']).contains(' ');
            let is_prose = !text.starts_with(['|', '#', '!', '<']) && is_breakable;
            if is_prose && text.chars().count() > MAX_COLUMNS {
                found.push(format!("{}:{line}", name(&path)));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

/// A newcomer reads the map of the code in one sitting.
const MAX_MAP_WORDS: usize = 2_000;

#[test]
fn map_of_the_code_is_short() {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let words = map.split_whitespace().count();
    assert!(words <= MAX_MAP_WORDS, "ARCHITECTURE.md has {words} words");
}

#[test]
fn prose_uses_the_words_of_the_field() {
    let patterns: Vec<(Regex, &str)> = REPLACED
        .iter()
        .map(|(pattern, instead)| (Regex::new(pattern).unwrap(), *instead))
        .collect();
    let mut found = Vec::new();
    let extensions = [
        "md", "rs", "js", "ts", "py", "html", "css", "yml", "yaml", "json", "toml", "service",
        "socket", "sh", "example",
    ];
    for path in files(root(), &extensions) {
        let file = name(&path);
        if file.starts_with("tests/prose")
            || file.ends_with("-lock.json")
            || ALLOWED.iter().any(|(allowed, _)| *allowed == file)
        {
            continue;
        }
        for (line, text) in prose(&path, &fs::read_to_string(&path).unwrap()) {
            for (pattern, instead) in &patterns {
                if let Some(word) = pattern.find(&text) {
                    found.push(format!(
                        "{file}:{line}: `{}`: better: {instead}",
                        word.as_str().trim()
                    ));
                }
            }
        }
    }
    assert!(
        found.is_empty(),
        "{} places:\n{}",
        found.len(),
        found.join("\n")
    );
}

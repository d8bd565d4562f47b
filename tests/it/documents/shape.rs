//! Compares an output with the one on the page. Values that differ from run to run are compared by
//! their shape.

use std::sync::LazyLock;

use regex::Regex;

/// A line of these dots stands for any lines, also none; within a line they stand for any text.
const ANYTHING: &str = "...";

/// Values that differ from run to run, and the word that replaces them.
static VOLATILE: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    [
        (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z?", "TIME"),
        (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID"),
        (r"\beyJ[\w-]+\.[\w-]+\.[\w-]+", "JWT"),
        (r"\b[0-9a-f]+-[0-9a-f]{8,}(-[0-9a-f]+)+\b", "CURSOR"),
        (r"\b[0-9a-f]{8}-[0-9a-f]{8}\b", "REQUEST"),
        (r"\b[0-9a-f]{32,}\b", "HEX"),
        (r"\b(127\.0\.0\.1|\[::1\]):[3-6]\d{4}\b", "CLIENT"),
        // Before the units: `PID 12 s` is none.
        (
            r"(?i)(\bpid[ =]?|_?pid(=|: *|\W{1,3})|\(was |process |kill (-\w+ )?)\d+",
            "${1}N",
        ),
        (r"\b\d+(\.\d+)?( ?(µs|us|ms|s|min|h|KiB|MiB|GiB|kB|MB|GB|%)\b| seconds)", "AMOUNT"),
        (r#"((_us|_ms|_seconds|seconds_left|_bytes|_kb|files|threads|requests_total)["=:]+ ?)\d+(\.\d+)?"#, "${1}N"),
    ]
    .map(|(pattern, name)| (Regex::new(pattern).unwrap(), name))
    .into()
});

fn shape(line: &str) -> String {
    let mut line = line.trim_end().to_owned();
    for (pattern, name) in VOLATILE.iter() {
        line = pattern.replace_all(&line, *name).into_owned();
    }
    line
}

/// Whether the page leaves out some of the output.
pub fn has_wildcard(expected: &[String]) -> bool {
    expected.iter().any(|line| line.contains(ANYTHING))
}

pub fn matches(expected: &[String], printed: &[String]) -> bool {
    lines_match(&shapes(expected), &shapes(printed))
}

/// The shapes of the lines, without empty ones at the end.
fn shapes(lines: &[String]) -> Vec<String> {
    let mut shapes: Vec<String> = lines.iter().map(|line| shape(line)).collect();
    while shapes.pop_if(|line| line.is_empty()).is_some() {}
    shapes
}

fn lines_match(expected: &[String], printed: &[String]) -> bool {
    let Some((first, rest)) = expected.split_first() else {
        return printed.is_empty();
    };
    if first == ANYTHING {
        return (0..=printed.len()).any(|skipped| lines_match(rest, &printed[skipped..]));
    }
    printed
        .split_first()
        .is_some_and(|(line, after)| line_matches(first, line) && lines_match(rest, after))
}

fn line_matches(expected: &str, line: &str) -> bool {
    let mut parts = expected.split(ANYTHING);
    let Some(mut line) = parts.next().and_then(|first| line.strip_prefix(first)) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return line.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return line.ends_with(part);
        }
        let Some(found) = line.find(part) else {
            return false;
        };
        line = &line[found + part.len()..];
    }
    true
}

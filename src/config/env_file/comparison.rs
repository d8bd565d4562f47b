//! The parser beside the real python-dotenv, on its own test cases and on generated files.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde::Deserialize;

use super::parser::{SingleQuotes, parse, parse_with};

/// How many files are generated. Each has up to four lines.
const GENERATED: usize = 4_000;

/// Pieces of lines.
const PIECES: [&str; 44] = [
    "A",
    "B",
    "HOME",
    "APP:NAME",
    "A.b-c",
    "[",
    "ä",
    "NAME",
    "export",
    "export ",
    "export\t",
    "=",
    "=",
    "=",
    " = ",
    "'",
    "'",
    "\"",
    "\"",
    "\\",
    "\\'",
    "\\\"",
    "\\\\",
    "\\n",
    "\\x",
    "#",
    " #",
    "\t# ",
    " ",
    "\t",
    "\u{a0}",
    "\u{1f}",
    "\n",
    "\n",
    "\r\n",
    "\r",
    "\u{feff}",
    "${A}",
    "${HOME}",
    "${B:-x}",
    "${A:b}",
    "${",
    "}",
    "plain value",
];

#[derive(Deserialize)]
struct Answer {
    own: Vec<String>,
    /// The values, and the number of invalid lines.
    results: Vec<(BTreeMap<String, String>, usize)>,
}

fn tools() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or("target".into(), PathBuf::from);
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(target)
        .join("tools")
}

/// The answer of python-dotenv for its own test cases and for these files.
fn ask_python_dotenv(files: &[String]) -> Option<Answer> {
    const TEST: &str = "values_and_invalid_lines_match_python_dotenv";
    let tests = tools().join("python-dotenv/tests");
    let python = tools().join("bin/python");
    if !tests.exists() || !python.exists() {
        assert!(
            std::env::var_os("CI").is_none(),
            "{TEST} needs python-dotenv, and CI skips nothing"
        );
        // Written directly, because the test harness hides the output of passing tests.
        let text = format!("{TEST}: it needs python-dotenv (`make test-tools`)");
        let _ = writeln!(std::io::stderr(), "SKIPPED {text}");
        if let Some(list) = std::env::var_os("SKIPPED_TESTS") {
            let list = std::fs::File::options()
                .append(true)
                .create(true)
                .open(list);
            writeln!(list.unwrap(), "{text}").unwrap();
        }
        return None;
    }
    let mut child = Command::new(python)
        .arg("-c")
        .arg(include_str!("python_dotenv.py"))
        .arg(tests)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let input = serde_json::to_vec(files).unwrap();
    child.stdin.take().unwrap().write_all(&input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

fn generate(count: usize) -> Vec<String> {
    let line = prop::collection::vec(prop::sample::select(&PIECES[..]), 1..8);
    let assignment = line
        .clone()
        .prop_map(|value| format!("A={}\n", value.concat()));
    let line = prop_oneof![assignment, line.prop_map(|line| line.concat() + "\n")];
    let file = prop::collection::vec(line, 1..5).prop_map(|lines| lines.concat());
    let mut runner = TestRunner::deterministic();
    let one = |_| file.new_tree(&mut runner).unwrap().current();
    (0..count).map(one).collect()
}

fn environment(name: &str) -> Option<String> {
    (name == "HOME").then(|| "/home/me".to_owned())
}

#[test]
fn values_and_invalid_lines_match_python_dotenv() {
    let generated = generate(GENERATED);
    let Some(answer) = ask_python_dotenv(&generated) else {
        return;
    };
    assert!(answer.own.len() > 80, "{} own cases", answer.own.len());
    let mut differing = 0;
    let files = answer.own.iter().chain(&generated);
    for (text, expected) in files.zip(&answer.results) {
        // Apart from the one rule that differs on purpose.
        let (values, errors) = parse_with(text, environment, SingleQuotes::Expanded);
        assert_eq!(
            (&values, errors.len()),
            (&expected.0, expected.1),
            "{text:?}"
        );
        let ours = parse(text, environment).0;
        if ours != expected.0 {
            assert!(text.contains('\'') && text.contains("${"), "{text:?}");
            differing += 1;
        }
    }
    println!(
        "{} own cases and {GENERATED} generated files: {differing} differ, with ${{…}} in single quotes",
        answer.own.len()
    );
}

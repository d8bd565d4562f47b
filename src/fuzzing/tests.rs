use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::TARGETS;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn names_in(directory: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let names = entries.map(|entry| entry.unwrap().path());
    names
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect()
}

/// The inputs of an archive.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let directory = tempfile::tempdir().unwrap();
    let archive = fuzz().join("corpus").join(format!("{name}.tgz"));
    let mut tar = Command::new("tar");
    tar.arg("-xzf")
        .arg(&archive)
        .arg("-C")
        .arg(directory.path());
    assert!(tar.status().unwrap().success(), "{}", archive.display());
    let entries = std::fs::read_dir(directory.path()).unwrap();
    entries
        .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
        .collect()
}

#[test]
fn every_target_has_a_program_and_a_corpus() {
    let targets: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names_in(&fuzz().join("fuzz_targets")), targets);
    assert_eq!(names_in(&fuzz().join("corpus")), targets);
}

#[test]
fn corpus_inputs_break_nothing() {
    for (name, target) in TARGETS {
        let inputs = corpus(name);
        assert!(!inputs.is_empty(), "{name}");
        for input in inputs {
            println!("{name}: {:?}", String::from_utf8_lossy(&input));
            target(&input);
        }
    }
}

/// Runs random bytes, and inputs of the corpus with a few bytes changed. `RUNS` and `TARGET` are those
/// of `make fuzz`, for machines without cargo-fuzz.
#[test]
fn random_inputs_break_nothing() {
    let runs = std::env::var("RUNS").map(|runs| runs.parse().unwrap());
    let wanted = std::env::var("TARGET").ok();
    let is_wanted = |name: &str| wanted.as_deref().is_none_or(|wanted| wanted == name);
    for (name, target) in TARGETS.into_iter().filter(|(name, _)| is_wanted(name)) {
        let change = (any::<prop::sample::Index>(), any::<u8>());
        let changed = (prop::sample::select(corpus(name)), vec(change, 0..4)).prop_map(
            |(mut input, changes)| {
                for (at, byte) in changes {
                    if !input.is_empty() {
                        let at = at.index(input.len());
                        input[at] = byte;
                    }
                }
                input
            },
        );
        let input = prop_oneof![1 => vec(any::<u8>(), 0..200), 4 => changed];
        let mut runner = TestRunner::new(Config::with_cases(runs.clone().unwrap_or(64)));
        runner
            .run(&input, |input| {
                target(&input);
                Ok(())
            })
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

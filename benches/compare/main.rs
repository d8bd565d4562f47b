//! Measures `fullon` beside the programs that an operator would otherwise use, and prints three tables: the service, its
//! restart, and its log.
//!
//! `make bench`, or `cargo bench --bench compare` once `benches/install-rivals.sh` has run. `ROUNDS` sets how many rounds
//! (7); `ONLY=service`, `ONLY=restart` or `ONLY=log` measures one part, and `ONLY=overhead` the lines
//! below the first table. Figures are medians. Everything listens on 127.0.0.1,
//! lives in a directory of its own that is removed, and is ended at the end, also after a failure or Ctrl-C.

#![expect(clippy::print_stdout, reason = "the table is what this program is for")]
#![expect(
    clippy::print_stderr,
    reason = "progress and failures are told beside the table"
)]

mod bare_hyper;
mod contender;
mod figures;
mod health;
mod idle;
mod interrupt;
mod lifecycle;
mod load;
mod log;
mod machine;
mod overhead;
mod ports;
mod processes;
mod programs;
mod restart;
mod results;
mod rivals;
mod served;
mod service;
mod table;

use std::process::ExitCode;

use anyhow::{Context as _, Error, Result, bail};

const DEFAULT_ROUNDS: usize = 7;
const MAX_ROUNDS: usize = 100;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, rest @ ..] = arguments.as_slice()
        && let Some(result) = run_mode(mode, rest)
    {
        return exit_code(result);
    }
    // `cargo test --all-targets` runs benchmarks without it, and means that they build.
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("nothing is measured without --bench: run `cargo bench --bench compare`");
        return ExitCode::SUCCESS;
    }
    exit_code(compare())
}

/// What this program does as a process of its own, started by itself.
fn run_mode(mode: &str, arguments: &[String]) -> Option<Result<()>> {
    match (mode, arguments) {
        (bare_hyper::MODE, [port]) => Some(bare_hyper::serve(port)),
        (served::MODE, [port, how]) => Some(served::serve(port, how)),
        _ => log::run_mode(mode, arguments),
    }
}

fn exit_code(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn compare() -> Result<()> {
    let rounds = rounds()?;
    let parts: &[Part] = match std::env::var("ONLY").as_deref() {
        Ok("service") => &[service::compare],
        Ok("restart") => &[restart::compare],
        Ok("log") => &[log::compare],
        Ok("overhead") => &[overhead::compare],
        Ok(other) => bail!("ONLY is `{other}`, and not service, restart, log or overhead"),
        Err(_) => &[service::compare, restart::compare, log::compare],
    };
    interrupt::listen()?;
    // A table that fails is no reason to go without the others.
    let mut failure = Ok(());
    for part in parts {
        interrupt::check()?;
        failure = failure.and(part(rounds));
    }
    failure
}

type Part = fn(usize) -> Result<()>;

fn left_out(what: &str, error: &Error) {
    eprintln!("\n*** LEFT OUT: {what}: {error:#}\n");
}

fn rounds() -> Result<usize> {
    let Some(text) = std::env::var_os("ROUNDS") else {
        return Ok(DEFAULT_ROUNDS);
    };
    text.to_str()
        .and_then(|text| text.parse().ok())
        .filter(|rounds| (1..=MAX_ROUNDS).contains(rounds))
        .with_context(|| format!("ROUNDS is not a number from 1 to {MAX_ROUNDS}"))
}

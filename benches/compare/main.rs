//! Compares `fullon` with the programs that an operator would otherwise use. Prints three tables:
//! the service, its restart, and its log.
//!
//! Run `make bench`, or `cargo bench --bench compare` after `benches/install-rivals.sh`. `ROUNDS`
//! sets the number of rounds (7). `ONLY=service`, `ONLY=restart` or `ONLY=log` measures one part,
//! and `ONLY=overhead` the lines below the first table. Figures are medians. Every program listens
//! on 127.0.0.1 and works in a temporary directory. All are killed at the end, also after a failure
//! or Ctrl-C.

#![expect(clippy::print_stdout, reason = "this program prints a table")]
#![expect(
    clippy::print_stderr,
    reason = "progress and failures go beside the table"
)]

mod bare_hyper;
mod baseline;
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
mod progress;
mod public_server;
mod restart;
mod rivals;
mod service;
mod table;

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

const DEFAULT_ROUNDS: usize = 7;
const MAX_ROUNDS: usize = 100;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, rest @ ..] = arguments.as_slice()
        && let Some(result) = run_mode(mode, rest)
    {
        return exit_code(result);
    }
    // `cargo test --all-targets` runs benchmarks without this flag, to check that they build.
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("nothing is measured without --bench: run `cargo bench --bench compare`");
        return ExitCode::SUCCESS;
    }
    exit_code(compare())
}

/// Runs a mode of this program that the benchmark starts as its own process.
fn run_mode(mode: &str, arguments: &[String]) -> Option<Result<()>> {
    match (mode, arguments) {
        (bare_hyper::MODE, [port]) => Some(bare_hyper::serve(port)),
        (public_server::MODE, [port, metrics]) => Some(public_server::serve(port, metrics)),
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
    // If one table fails, the others are still measured.
    let mut failure = Ok(());
    for part in parts {
        interrupt::check()?;
        failure = failure.and(part(rounds));
    }
    failure
}

type Part = fn(usize) -> Result<()>;

fn rounds() -> Result<usize> {
    let Some(text) = std::env::var_os("ROUNDS") else {
        return Ok(DEFAULT_ROUNDS);
    };
    text.to_str()
        .and_then(|text| text.parse().ok())
        .filter(|rounds| (1..=MAX_ROUNDS).contains(rounds))
        .with_context(|| format!("ROUNDS is not a number from 1 to {MAX_ROUNDS}"))
}

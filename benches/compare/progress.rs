//! Messages about the run itself, printed to standard error.

use anyhow::Error;

/// Reports a measurement that cannot run on this machine.
pub fn report_skipped(name: &str, error: &Error) {
    eprintln!("\n*** LEFT OUT: {name}: {error:#}\n");
}

/// Reports a measurement that failed in one round.
pub fn report_failure(name: &str, error: &Error) {
    eprintln!("\n*** FAILED: {name}: {error:#}\n");
}

//! Output of the modes that run as processes of their own.

use std::io::Write as _;

use anyhow::Result;

/// Prints a line at once, because another process waits for it.
pub fn print_line(line: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}")?;
    Ok(stdout.flush()?)
}

//! `fullon completions`, generated from the definitions of the arguments.

use std::io::{self, Write as _};

use clap::Command;
use clap_complete::Shell;

use super::error::Result;
use crate::identity::identity;

#[derive(Debug, clap::Args)]
pub struct CompletionsArgs {
    /// Shell that runs the script
    shell: Shell,
}

pub fn run(arguments: &CompletionsArgs, mut command: Command) -> Result {
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut command,
        identity().command,
        &mut script,
    );
    Ok(io::stdout().write_all(&script)?)
}

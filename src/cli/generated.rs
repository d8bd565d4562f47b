//! `fullon completions` and `fullon man`, generated from the definitions of the arguments.

use std::io::{self, Write as _};

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Arguments, Result};

#[derive(Debug, clap::Args)]
pub struct CompletionsArguments {
    shell: Shell,
}

pub fn completions(arguments: &CompletionsArguments) -> Result {
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut Arguments::command(),
        "fullon",
        &mut script,
    );
    Ok(io::stdout().write_all(&script)?)
}

/// The page of the program, and behind it a section for each verb.
pub fn man() -> Result {
    let mut command = Arguments::command();
    command.build();
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    for verb in command
        .get_subcommands()
        .filter(|verb| verb.get_name() != "help")
    {
        writeln!(page, ".SH FULLON {}", verb.get_name().to_uppercase())?;
        let page_of_verb = clap_mangen::Man::new(verb.clone());
        page_of_verb.render_description_section(&mut page)?;
        page_of_verb.render_synopsis_section(&mut page)?;
    }
    Ok(io::stdout().write_all(&page)?)
}

//! The command of the application on the command line: `fullon start -- COMMAND…`.

use std::path::Path;

use super::error::{CommandError, Result};
use crate::config::{APP_COMMAND, AppCommand, Flags, flag_name};

#[derive(Debug, clap::Args)]
pub struct AppCommandArgs {
    #[arg(
        last = true,
        value_name = "COMMAND",
        help = "Program and arguments of the application, instead of APP_COMMAND"
    )]
    command: Vec<String>,
}

impl AppCommandArgs {
    /// Adds the command to the flags of settings. Its words are quoted.
    pub fn add_to(&self, flags: &mut Flags) -> Result {
        if self.command.is_empty() {
            return Ok(());
        }
        if flags.contains_key(APP_COMMAND) {
            let text = format!(
                "--{} and a command after `--` were given: use one of them",
                flag_name(APP_COMMAND)
            );
            return Err(CommandError::Usage(text));
        }
        if let [line] = &*self.command
            && line.trim().contains(char::is_whitespace)
            && !Path::new(line).exists()
        {
            let text = format!("`{line}` is one word: leave out the quotes around the command");
            return Err(CommandError::Usage(text));
        }
        let command = AppCommand::new(self.command.clone()).map_err(CommandError::Usage)?;
        flags.insert(APP_COMMAND.into(), command.to_string());
        Ok(())
    }
}

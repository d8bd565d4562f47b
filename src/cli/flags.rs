//! A flag for every setting that is not secret, generated from the table of settings.

use clap::{Arg, ArgMatches, Args, Command, Error, FromArgMatches};

use crate::config::{DEFINITIONS, Flags, flag_name};

#[derive(Debug)]
pub struct SettingFlags(pub Flags);

impl FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut flags = Self(Flags::new());
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        for setting in DEFINITIONS.iter().filter(|setting| !setting.is_secret) {
            if let Some(value) = matches.get_one::<String>(setting.name) {
                self.0.insert(setting.name.into(), value.clone());
            }
        }
        Ok(())
    }
}

impl Args for SettingFlags {
    fn augment_args(command: Command) -> Command {
        let args = DEFINITIONS
            .iter()
            .filter(|setting| !setting.is_secret)
            .map(|setting| {
                let (name, help) = (setting.name, setting.help);
                let help = match setting.default_text() {
                    Some(default) => format!("{help} [env: {name}] [default: {default}]"),
                    None => format!("{help} [env: {name}]"),
                };
                Arg::new(setting.name)
                    .long(flag_name(setting.name))
                    .value_name("VALUE")
                    .help(help)
                    .help_heading("Settings")
                    .hide_short_help(true)
                    .global(true)
            });
        command.args(args)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

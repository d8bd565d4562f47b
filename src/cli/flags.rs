//! A flag for every setting that is not secret, generated from the table of settings.

use std::ffi::OsStr;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser, ValueParser};
use clap::{Arg, ArgMatches, Args, Command, Error, FromArgMatches, ValueHint};

use crate::auth::Scopes;
use crate::config::{DEFINITIONS, Flags, SettingDefinition, SettingValue, flag_name};

#[derive(Debug)]
pub struct SettingFlags(pub Flags);

/// `PID_FILE` selects the daemon, so its flag is an option of every command.
fn is_for_every_command(setting: &SettingDefinition) -> bool {
    setting.name == "PID_FILE"
}

/// Whether the argument is the flag of a setting that only some commands take.
pub fn is_setting(argument: &Arg) -> bool {
    let mut settings = settings().filter(|setting| !is_for_every_command(setting));
    settings.any(|setting| setting.name == argument.get_id().as_str())
}

fn settings() -> impl Iterator<Item = &'static SettingDefinition> {
    DEFINITIONS.iter().filter(|setting| !setting.is_secret)
}

impl SettingFlags {
    /// Shows the flags in the help of a command that takes settings.
    pub fn show(command: Command) -> Command {
        let settings = settings().filter(|setting| !is_for_every_command(setting));
        command.args(settings.map(flag))
    }

    /// The given flags that only some commands take.
    pub fn names(&self) -> Vec<String> {
        let given =
            settings().filter(|it| !is_for_every_command(it) && self.0.contains_key(it.name));
        given
            .map(|setting| format!("--{}", flag_name(setting.name)))
            .collect()
    }
}

impl FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut flags = Self(Flags::new());
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        for setting in settings() {
            if let Some(value) = matches.get_one::<String>(setting.name) {
                self.0.insert(setting.name.into(), value.clone());
            }
        }
        Ok(())
    }
}

impl Args for SettingFlags {
    /// Every command parses all flags, also before its name: a daemon of version 1.0.0 starts its
    /// successor so. They are hidden where they have no effect.
    fn augment_args(command: Command) -> Command {
        command.args(settings().map(|setting| {
            let flag = flag(setting).global(true);
            if is_for_every_command(setting) {
                flag.help_heading(None).hide_short_help(false)
            } else {
                flag.hide(true)
            }
        }))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn flag(setting: &'static SettingDefinition) -> Arg {
    let (name, help) = (setting.name, setting.help);
    let help = match setting.default_text() {
        Some(default) => format!("{help} [env: {name}] [default: {default}]"),
        None => format!("{help} [env: {name}]"),
    };
    let (parser, hint) = match setting.value {
        SettingValue::OneOf(names) => (suggest(names), ValueHint::Other),
        SettingValue::File => (StringValueParser::new().into(), ValueHint::FilePath),
        SettingValue::Directory => (StringValueParser::new().into(), ValueHint::DirPath),
        SettingValue::Text => (StringValueParser::new().into(), ValueHint::Other),
    };
    Arg::new(name)
        .long(flag_name(name))
        .value_name("VALUE")
        .value_parser(parser)
        // The help says them in its own order, and what each means.
        .hide_possible_values(true)
        .value_hint(hint)
        .help(help)
        .help_heading("Settings")
        .hide_short_help(true)
}

/// Accepts any text, and offers these words to completion scripts. A wrong value is reported later,
/// in the same way as from another source.
pub fn suggest(words: &'static [&'static str]) -> ValueParser {
    ValueParser::new(Suggestions(words))
}

/// Parses scopes, and offers them to completion scripts.
pub fn scopes() -> ValueParser {
    let names = &["admin:read", "admin:logs", "admin:control"];
    ValueParser::new(Suggestions(names).try_map(|text| text.parse::<Scopes>()))
}

#[derive(Clone)]
struct Suggestions(&'static [&'static str]);

impl TypedValueParser for Suggestions {
    type Value = String;

    fn parse_ref(
        &self,
        command: &Command,
        argument: Option<&Arg>,
        value: &OsStr,
    ) -> Result<String, Error> {
        StringValueParser::new().parse_ref(command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.0.iter().copied().map(PossibleValue::new)))
    }
}

//! `fullon config`

use super::context::CommandContext;
use super::error::Result;
use super::output::{Output, notice, print_warning};
use crate::api::SettingEntry;
use crate::config::{APP_COMMAND, Settings, Source, Sources, ephemeral_port_warning};

#[derive(Debug, clap::Args)]
pub struct ConfigArgs {
    /// Only check whether the settings are valid
    #[arg(long)]
    check: bool,
}

fn print_warnings(sources: &Sources) {
    for warning in sources.warnings() {
        print_warning(warning);
    }
}

pub fn run(context: &CommandContext, arguments: &ConfigArgs, output: &Output) -> Result {
    let mut sources = context.location.read_sources();
    if arguments.check {
        print_warnings(&sources);
    } else if let Some(running) = context.control()?.running_sources()
        && let Some((command, Source::Flag)) = running.get(APP_COMMAND)
        && !context.location.flags.contains_key(APP_COMMAND)
    {
        // It takes precedence over `.env` until a restart with another one.
        let mut location = context.location.clone();
        location.flags.insert(APP_COMMAND.into(), command.into());
        sources = location.read_sources();
    }
    let settings = Settings::load(&sources)?;
    if !arguments.check {
        print_warnings(&sources);
    }
    let entries = settings.entries();
    if arguments.check {
        for (setting, address) in [("PORT", &settings.public), ("ADMIN_PORT", &settings.admin)] {
            if let Some(warning) = ephemeral_port_warning(setting, address.port()) {
                print_warning(&warning);
            }
        }
        output.print_success("Configuration is valid")?;
        return output.print_json(&serde_json::json!({ "valid": true }));
    }
    let running = context.control()?.running_sources();
    if let Some(running) = running.filter(|running| !running.has_same_values(&sources)) {
        notice(&format!(
            "the running daemon has other settings: it reads {} and the flags and variables that it was started with (GET /admin/config shows them)",
            running.file().display()
        ));
    }
    let width = |lengths: &mut dyn Iterator<Item = usize>| lengths.max().unwrap_or(0);
    let names = width(&mut entries.iter().map(|entry| entry.name.len()));
    let values = width(
        &mut entries
            .iter()
            .map(|entry| entry.value.as_deref().unwrap_or("").len()),
    );
    if !output.is_json() {
        for entry in entries {
            let value = entry.value.as_deref().unwrap_or("");
            output.print_line(&format!(
                "{:<names$}  {value:<values$}  {}",
                entry.name, entry.source
            ))?;
        }
    }
    let entries: Vec<_> = entries.iter().map(SettingEntry::from).collect();
    output.print_json(&entries)
}

//! `fullon config`

use super::Context;
use super::Result;
use super::output::{Colour, Output};
use crate::config::Settings;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Only validate
    #[arg(long)]
    check: bool,
}

pub fn run(context: &Context, arguments: &Arguments, output: &Output) -> Result {
    let settings = Settings::load(&context.origin.sources())?;
    let entries = settings.entries();
    if arguments.check {
        output.outcome("✓", Colour::Green, "Configuration is valid")?;
        return output.value(&serde_json::json!({ "valid": true }));
    }
    let width = |texts: &mut dyn Iterator<Item = usize>| texts.max().unwrap_or(0);
    let names = width(&mut entries.iter().map(|entry| entry.name.len()));
    let values = width(
        &mut entries
            .iter()
            .map(|entry| entry.value.as_deref().unwrap_or("").len()),
    );
    if !output.is_json() {
        for entry in entries {
            let value = entry.value.as_deref().unwrap_or("");
            output.line(&format!(
                "{:<names$}  {value:<values$}  {}",
                entry.name, entry.source
            ))?;
        }
    }
    output.value(&entries)
}

//! `fullon reload`

use serde_json::json;

use super::output::{Colour, Output, notice};
use super::{Context, Failure, Result, block_on};
use crate::api::SettingChange;
use crate::control::{ReloadError, Reloaded};

pub fn run(context: &Context, output: &Output) -> Result {
    let control = context.control()?;
    let given = control.check_given(&context.origin);
    given.map_err(|error| Failure::Usage(error.to_string()))?;
    let reloaded = block_on(control.reload(&mut notice))?;
    let reloaded = reloaded.map_err(|error| match error {
        ReloadError::Settings(_) => {
            output.error(&error.to_string());
            Failure::Exit(2)
        }
        other => Failure::Other(other.into()),
    })?;
    let done = match reloaded {
        Reloaded::Done(done) => done,
        Reloaded::Asked(pid) => {
            let text = format!("Asked process {pid} to reload; its log says what came of it");
            output.outcome("✓", Colour::Green, &text)?;
            return output.value(&json!({ "asked": pid }));
        }
    };
    let text = if done.changed.is_empty() {
        "Configuration reloaded: nothing to change in place"
    } else {
        "Configuration reloaded"
    };
    output.outcome("✓", Colour::Green, text)?;
    for change in &done.changed {
        output.line(&format!("  {}", describe(change)))?;
    }
    if let Some(until) = &done.previous_key_counts_until {
        output.line(&format!("  The key before counts until {until}"))?;
    }
    if !done.needs_restart.is_empty() {
        output.line("Waiting for `fullon restart`:")?;
    }
    for change in &done.needs_restart {
        output.line(&format!("  {}", describe(change)))?;
    }
    output.value(&done)
}

fn describe(change: &SettingChange) -> String {
    let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "not set".into());
    let (name, from, to) = (&change.name, shown(&change.from), shown(&change.to));
    format!("{name}: {from} -> {to}")
}

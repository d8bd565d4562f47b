//! `fullon token`

use std::time::Duration;

use serde_json::json;

use super::context::{CommandContext, block_on, user_name};
use super::error::Result;
use super::output::Output;
use crate::auth::{Scopes, TokenSigner, read_or_create_key_file};
use crate::config::{ClientSettings, DEFINITIONS, InvalidSettings, duration};

#[derive(Debug, clap::Args)]
pub struct TokenArgs {
    /// Scopes of the token: admin:read, admin:logs, admin:control
    #[arg(long, value_name = "SCOPES", default_value_t = Scopes::ALL)]
    scope: Scopes,
    /// Lifetime of the token, at most 365d: 1h, 1d 12h, or a number of seconds
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = lifetime)]
    ttl: Duration,
    /// Name of the holder in the audit log; your user name by default
    #[arg(long, value_name = "NAME")]
    subject: Option<String>,
}

fn lifetime(text: &str) -> std::result::Result<Duration, String> {
    duration(text)
        .filter(|ttl| (Duration::from_secs(1)..=Duration::from_hours(365 * 24)).contains(ttl))
        .ok_or_else(|| "not a duration such as 30m or a number of seconds, from 1s to 365d".into())
}

pub fn run(context: &CommandContext, arguments: &TokenArgs, output: &Output) -> Result {
    let mut locator = ClientSettings::load(&context.location.read_sources())?;
    // An invalid secret, or an unreadable file that may contain one, is an error here: the token
    // would be signed with another key.
    locator.ignored_problems.retain(|problem| {
        !DEFINITIONS
            .iter()
            .any(|setting| setting.name == problem.setting && setting.name != "JWT_SECRET_KEY")
    });
    if !locator.ignored_problems.is_empty() {
        return Err(InvalidSettings(locator.ignored_problems).into());
    }
    let (secret, key_file) = (locator.jwt_secret.clone(), locator.key_file.clone());
    // Before a key is created that no daemon has.
    let control = context.control_for(locator)?;
    block_on(control.check_token())?.map_err(anyhow::Error::from)?;
    let key = match (secret, key_file) {
        (Some(secret), _) => secret,
        (None, Some(path)) => read_or_create_key_file(&path).map_err(anyhow::Error::from)?,
        (None, None) => {
            return Err(anyhow::anyhow!("there is no signing key: set JWT_SECRET_KEY").into());
        }
    };
    let subject = arguments.subject.clone().unwrap_or_else(user_name);
    let token = TokenSigner::with_configured_key(&key)
        .sign(&subject, arguments.scope, arguments.ttl)
        .map_err(anyhow::Error::from)?;
    if !output.is_json() {
        return output.print_line(&token);
    }
    output.print_json(&json!({
        "token": token,
        "subject": subject,
        "scope": arguments.scope.to_string(),
        "expires_in_seconds": arguments.ttl.as_secs(),
    }))
}

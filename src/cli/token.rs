//! `fullon token`

use std::time::Duration;

use serde_json::json;

use super::context::{CommandContext, block_on, error_text, user_name};
use super::error::{CommandError, Result};
use super::flags::scopes;
use super::output::{Output, notice};
use crate::api::{RevokeRequest, RevokeResult};
use crate::auth::{Revocations, Scopes, TokenSigner, contains_token, token_id};
use crate::config::{ClientSettings, DEFINITIONS, InvalidSettings, duration};
use crate::control::{RevokeOutcome, RevokeTokensError};

#[derive(Debug, clap::Args)]
pub struct TokenArgs {
    /// Scopes of the token, separated by commas
    #[arg(long, value_name = "SCOPES", default_value_t = Scopes::ALL, value_parser = scopes())]
    scope: Scopes,
    /// Lifetime of the token, at most 365d: 1h, 1d 12h, or a number of seconds
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = lifetime)]
    ttl: Duration,
    /// Name of the holder in the audit log; your user name by default
    #[arg(long, value_name = "NAME")]
    subject: Option<String>,
    /// Revoke a token, given as such or by its id (the claim jti); `-` reads it from stdin
    #[arg(long, value_name = "TOKEN", conflicts_with_all = ["scope", "ttl", "subject"])]
    revoke: Option<String>,
    /// Revoke all tokens, end all sessions, and replace the signing key if this program generated it
    #[arg(long, conflicts_with_all = ["scope", "ttl", "subject", "revoke"])]
    revoke_all: bool,
}

/// `-` keeps a token out of the list of processes.
fn parse_revoked(text: &str) -> Result<RevokeRequest> {
    let text = if text == "-" {
        std::io::read_to_string(std::io::stdin())?
    } else {
        text.to_owned()
    };
    let mut request = RevokeRequest::default();
    if contains_token(&text) {
        request.token = Some(text.trim().to_owned());
    } else {
        // Nothing else is part of the line: an id with spaces is refused.
        let line = text.strip_suffix('\n').unwrap_or(&text);
        request.jti = Some(line.strip_suffix('\r').unwrap_or(line).to_owned());
    }
    Ok(request)
}

fn revoke(context: &CommandContext, request: &RevokeRequest, output: &Output) -> Result {
    let (control, problems) = context.control_with_ignored()?;
    let outcome = block_on(control.revoke_tokens(request, problems.all()))?;
    problems.print_except(&error_text(&outcome));
    let RevokeOutcome { result, files } = outcome.map_err(|error| match error {
        RevokeTokensError::Settings(problems) => CommandError::from(problems),
        other => anyhow::Error::from(other).into(),
    })?;
    let audit_error = files.as_ref().and_then(|files| files.audit_error.as_ref());
    if let Some(error) = audit_error {
        notice(&format!("the audit trail has no record of this: {error}"));
    }
    let is_all = request.all == Some(true);
    output.print_success(if is_all {
        "All tokens are revoked"
    } else if request.jti.is_some() {
        "Tokens with this id are refused from now on"
    } else {
        "The token is revoked"
    })?;
    if request.jti.is_some() {
        // Whether another daemon has a session with this id is unknown.
        output.print_line(
            "  The id of a browser session is no id of a token: see `fullon sessions --end`",
        )?;
    }
    if let Some(files) = &files {
        let path = files.revoked.display();
        output.print_line(&match &files.api_error {
            None => format!("  No daemon is running; the next one reads it from {path}"),
            Some(_) => format!("  The running daemon reads it from {path}"),
        })?;
        if let Some(error) = &files.api_error {
            notice(&format!(
                "the daemon did not do it at once, so the files were changed: {error}"
            ));
        }
    }
    if let Some(ended) = result.sessions_ended {
        output.print_line(&format!("  Sessions ended: {ended}"))?;
    }
    if is_all {
        let is_replaced = result.signing_key == RevokeResult::REPLACED;
        output.print_line(&match files.and_then(|files| files.key) {
            Some(path) if is_replaced => format!(
                "  Signing key: replaced in {}; a service that sets JWT_SECRET_KEY keeps its own: change it there",
                path.display()
            ),
            _ if is_replaced => "  Signing key: replaced".to_owned(),
            _ => "  Signing key: unchanged, because JWT_SECRET_KEY sets it; change it if others may know it".to_owned(),
        })?;
    }
    output.print_json(&result)
}

fn lifetime(text: &str) -> std::result::Result<Duration, String> {
    duration(text)
        .filter(|ttl| (Duration::from_secs(1)..=Duration::from_hours(365 * 24)).contains(ttl))
        .ok_or_else(|| "not a duration such as 30m or a number of seconds, from 1s to 365d".into())
}

pub fn run(context: &CommandContext, arguments: &TokenArgs, output: &Output) -> Result {
    if arguments.revoke_all {
        let request = RevokeRequest {
            all: Some(true),
            ..RevokeRequest::default()
        };
        return revoke(context, &request, output);
    }
    if let Some(text) = &arguments.revoke {
        return revoke(context, &parse_revoked(text)?, output);
    }
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
        (None, Some(path)) => Revocations::new(Some(Revocations::path(&path)))
            .read_or_create_key_file(&path)
            .map_err(anyhow::Error::from)?,
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
        "token_id": token_id(&token),
        "subject": subject,
        "scope": arguments.scope.to_string(),
        "expires_in_seconds": arguments.ttl.as_secs(),
    }))
}

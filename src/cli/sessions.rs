//! `fullon sessions`

use serde_json::json;

use super::context::{CommandContext, block_on};
use super::error::Result;
use super::output::Output;

#[derive(Debug, clap::Args)]
pub struct SessionsArgs {
    /// End the session with this id, and its log streams
    #[arg(long, value_name = "ID")]
    end: Option<String>,
}

pub fn run(context: &CommandContext, arguments: &SessionsArgs, output: &Output) -> Result {
    let control = context.control()?;
    if let Some(id) = &arguments.end {
        block_on(control.end_session(id))?.map_err(anyhow::Error::from)?;
        output.print_success(&format!("Session {id} ended"))?;
        return output.print_json(&json!({ "ended": id }));
    }
    let sessions = block_on(control.sessions())?.map_err(anyhow::Error::from)?;
    if sessions.is_empty() {
        output.print_success("Nobody is signed in")?;
    }
    for session in &sessions {
        let scopes = if session.log_only {
            "log only".to_owned()
        } else {
            session.scopes.join(" ")
        };
        output.print_line(&format!(
            "{}  {}  since {}  until {}  {scopes}",
            session.id, session.subject, session.created_at, session.expires_at
        ))?;
    }
    output.print_json(&sessions)
}

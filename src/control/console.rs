//! Lets somebody into the console.

use thiserror::Error;

use super::{Control, Target};
use crate::api::{CONSOLE_PATH, SignInToken};
use crate::auth::Scopes;
use crate::client::ClientError;
use crate::instance::PidFileError;

/// There is no address.
#[derive(Debug, Error)]
pub enum ConsoleError {
    /// The PID file cannot be read.
    #[error(transparent)]
    PidFile(#[from] PidFileError),
    /// There is no daemon.
    #[error("the daemon is not running: `fullon start` starts it")]
    NotRunning,
    /// It is older than this program.
    #[error("the running daemon has no console: `fullon restart` replaces it by this program")]
    NoConsole,
    /// Whoever answers is no daemon of ours.
    #[error("what was sent as a token is none")]
    MalformedToken,
    /// The admin API could not be used, and there is no other way.
    #[error(transparent)]
    Client(ClientError),
}

impl Control {
    /// The address of the console, with a token in its fragment that signs in once, to do what the scopes allow.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub async fn console_address(
        &self,
        scopes: Scopes,
    ) -> Result<(String, SignInToken), ConsoleError> {
        let client = match self.find_target().await? {
            Target::Local { client, .. } => client.map_err(ConsoleError::Client)?,
            Target::Remote(client) => client,
            Target::Absent(Ok(client)) if self.is_target(&client).await => client,
            Target::Absent(Err(error)) if self.admin_url.is_some() => {
                return Err(ConsoleError::Client(error));
            }
            Target::Absent(_) | Target::Dead(_) => return Err(ConsoleError::NotRunning),
        };
        let mut answer = client.create_sign_in_token(scopes).await;
        if let Err(error) = &answer
            && error.is_conflict()
        {
            // It was replaced meanwhile: the connection to its successor is a new one.
            answer = client.create_sign_in_token(scopes).await;
        }
        let given = answer.map_err(|error| match error {
            ClientError::Problem(problem) if problem.status == 404 => ConsoleError::NoConsole,
            error => ConsoleError::Client(error),
        })?;
        // It becomes a part of an address: one that came from here would be nothing else.
        if !given.token.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(ConsoleError::MalformedToken);
        }
        // Where it was asked for, and not where the daemon believes to be: there may be a tunnel in between.
        let mut address = client.base_url().clone();
        address.set_path(CONSOLE_PATH);
        address.set_fragment(Some(&format!("token={}", given.token)));
        Ok((address.to_string(), given))
    }
}

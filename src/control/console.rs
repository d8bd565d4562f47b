//! The address that signs a user in to the console.

use thiserror::Error;

use super::target::DaemonControl;
use crate::api::{CONSOLE_CLEAR_PATH, CONSOLE_PATH};
use crate::auth::{Scopes, sign_in_id};
use crate::client::ClientError;
use crate::instance::PidFileError;

/// There is no address of the console.
#[derive(Debug, Error)]
pub enum ConsoleError {
    /// The PID file cannot be inspected.
    #[error(transparent)]
    PidFile(#[from] PidFileError),
    /// No daemon is running.
    #[error("the daemon is not running: start it with `fullon start`")]
    NotRunning,
    /// The daemon runs a version without a console.
    #[error("the running daemon is an older version without a console: use `fullon restart`")]
    NoConsole,
    /// The token contains characters that are not alphanumeric.
    #[error("the admin API returned an invalid one-time token")]
    MalformedToken,
    /// The admin API failed.
    #[error(transparent)]
    Client(ClientError),
}

/// The address of the console, for one sign-in.
#[derive(Debug)]
pub struct ConsoleAddress {
    /// The page, with a one-time token in its fragment.
    pub page: String,
    /// An image, which clears what the browser has stored for this origin.
    pub clear_image: String,
    /// Lifetime of the one-time token in seconds.
    pub expires_in_seconds: u64,
}

impl DaemonControl {
    /// The address of the console, with a one-time token for these scopes in its fragment.
    ///
    /// # Errors
    ///
    /// Why there is no address.
    pub async fn console_address(&self, scopes: Scopes) -> Result<ConsoleAddress, ConsoleError> {
        let endpoint = self.find_endpoint().await?;
        let client = endpoint.ok_or(ConsoleError::NotRunning)?.client;
        let client = client.map_err(ConsoleError::Client)?;
        let mut answer = client.create_sign_in_token(scopes).await;
        if let Err(error) = &answer
            && error.is_conflict()
        {
            // The process was replaced meanwhile. The next connection is to the new one.
            answer = client.create_sign_in_token(scopes).await;
        }
        let token = answer.map_err(|error| match error {
            ClientError::Problem(problem) if problem.status == 404 => ConsoleError::NoConsole,
            error => ConsoleError::Client(error),
        })?;
        // The token becomes part of an address, so another server must not choose its characters.
        if !token.token.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(ConsoleError::MalformedToken);
        }
        // The address that this client used, not the daemon's own: there may be a tunnel.
        let mut address = client.page_base_url().clone();
        let id = sign_in_id(&token.token);
        address.set_path(&format!("{CONSOLE_CLEAR_PATH}{id}"));
        let clear_image = address.to_string();
        address.set_path(CONSOLE_PATH);
        address.set_fragment(Some(&format!("token={}", token.token)));
        Ok(ConsoleAddress {
            page: address.to_string(),
            clear_image,
            expires_in_seconds: token.expires_in_seconds,
        })
    }
}

//! Probes Redis with a `PING`.
//!
//! There are three commands, each with a reply of one line, so the protocol (RESP) needs no client
//! library.

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

use super::error::ProbeError;
use super::transport::{Stream, Transport};
use crate::config::{RedisSettings, Secret, TlsMode};

/// Every expected reply is shorter.
const MAX_LINE: usize = 1024;
const PROTOCOL: &str = "Redis";
/// Error codes that are shown. They describe the state of the server.
const KNOWN_ERRORS: [&str; 6] = [
    "BUSY",
    "DENIED",
    "LOADING",
    "MASTERDOWN",
    "MISCONF",
    "TRYAGAIN",
];

/// A client that keeps its connection between probes.
pub struct RedisClient {
    settings: RedisSettings,
    transport: Transport,
    connection: Option<Stream>,
}

/// A redis server has one address.
const SERVER: usize = 0;

impl RedisClient {
    pub fn new(settings: RedisSettings) -> Self {
        Self {
            transport: Transport::new(settings.endpoint.clone()),
            settings,
            connection: None,
        }
    }

    /// Sends a `PING`. Connects again if the kept connection was lost. Keeps the connection if the
    /// probe succeeds. The future may be dropped at any time.
    pub async fn probe(&mut self) -> Result<(), ProbeError> {
        if let Some(stream) = self.connection.take() {
            match self.ping(stream).await {
                Err(ProbeError::ConnectionLost(_)) => {}
                result => return result,
            }
        }
        let mut stream = self.transport.connect(SERVER).await?;
        let is_encrypted = *self.transport.mode(SERVER) != TlsMode::Off;
        if is_encrypted {
            stream = self.transport.encrypt(SERVER, stream).await?;
        }
        let answer = self.greet(stream).await;
        answer.map_err(|error| match error {
            ProbeError::ConnectionLost(_) if self.transport.is_network(SERVER) && !is_encrypted => {
                ProbeError::PlainRefused("REDIS_TLS=on")
            }
            error => error,
        })
    }

    /// Whether the last probe ended in a TLS handshake.
    pub fn is_in_handshake(&self) -> bool {
        self.transport.is_in_handshake()
    }

    /// Signs in on a new connection, and sends the first `PING`.
    async fn greet(&mut self, mut stream: Stream) -> Result<(), ProbeError> {
        let RedisSettings { user, password, .. } = &self.settings;
        let password = password.as_ref().map(Secret::expose);
        match (user, password) {
            // A user may need no password.
            (Some(user), password) => {
                let command = ["AUTH", user, password.unwrap_or_default()];
                let answer = send_command(&mut stream, &command, "+OK").await;
                answer.map_err(|error| match error {
                    ProbeError::WrongPassword => {
                        ProbeError::Rejected("the server rejected the user or the password")
                    }
                    error => error,
                })?;
            }
            (None, Some(password)) => {
                send_command(&mut stream, &["AUTH", password], "+OK").await?;
            }
            (None, None) => {}
        }
        if self.settings.database != 0 {
            let number = self.settings.database.to_string();
            let answer = send_command(&mut stream, &["SELECT", &number], "+OK").await;
            answer.map_err(|error| match error {
                ProbeError::CommandRefused => ProbeError::Rejected(
                    "the server has no database with this number, see REDIS_DB",
                ),
                error => error,
            })?;
        }
        self.ping(stream).await
    }

    async fn ping(&mut self, mut stream: Stream) -> Result<(), ProbeError> {
        send_command(&mut stream, &["PING"], "+PONG").await?;
        self.connection = Some(stream);
        Ok(())
    }
}

/// Sends a command and expects the reply `wanted`.
async fn send_command(
    stream: &mut Stream,
    command: &[&str],
    wanted: &str,
) -> Result<(), ProbeError> {
    stream.write_all(&encode_command(command)).await?;
    stream.flush().await?;
    expect_reply(stream, wanted).await
}

/// Reads a reply, and fails unless it is the line `wanted`.
pub(crate) async fn expect_reply(
    stream: &mut (impl AsyncRead + Unpin),
    wanted: &str,
) -> Result<(), ProbeError> {
    let line = read_line(stream).await?;
    if line == wanted.as_bytes() {
        return Ok(());
    }
    match line.strip_prefix(b"-") {
        Some(error) => Err(server_error(error)),
        None => Err(ProbeError::WrongProtocol(PROTOCOL)),
    }
}

/// Encodes an array of bulk strings, which may contain any bytes.
fn encode_command(command: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
    for word in command {
        bytes.extend(format!("${}\r\n{word}\r\n", word.len()).into_bytes());
    }
    bytes
}

/// Reads one line and no byte after it. Returns it without the line break.
async fn read_line(stream: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, ProbeError> {
    let mut line = Vec::new();
    while line.len() < MAX_LINE {
        line.push(stream.read_u8().await?);
        if let Some(text) = line.strip_suffix(b"\r\n") {
            return Ok(text.to_owned());
        }
    }
    Err(ProbeError::WrongProtocol(PROTOCOL))
}

fn server_error(error: &[u8]) -> ProbeError {
    let end = error.iter().position(|byte| *byte == b' ');
    let word = &error[..end.unwrap_or(error.len())];
    match word {
        b"ERR" if error.starts_with(b"ERR max number of clients") => {
            ProbeError::Rejected("the server has too many connections")
        }
        b"NOAUTH" => ProbeError::PasswordRequired("REDIS_PASSWORD"),
        b"WRONGPASS" => ProbeError::WrongPassword,
        // `AUTH` without a configured password, or a wrong password before Redis 6.
        b"ERR" => ProbeError::CommandRefused,
        b"NOPERM" => {
            ProbeError::Rejected("the user may not run PING or SELECT on the server: see its ACL")
        }
        word => match KNOWN_ERRORS.iter().find(|known| known.as_bytes() == word) {
            Some(known) => ProbeError::ErrorCode((*known).to_owned()),
            None => ProbeError::Rejected("the server returned an error"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_encoding_keeps_arbitrary_bytes() {
        let bytes = encode_command(&["AUTH", "a b\r\n\"ü"]);
        let wanted = "*2\r\n$4\r\nAUTH\r\n$8\r\na b\r\n\"ü\r\n";
        assert_eq!(bytes, wanted.as_bytes());
    }

    #[test]
    fn server_error_text_is_not_quoted() {
        for (error, wanted) in [
            (
                "LOADING Redis at db.example",
                "the server returned the error LOADING",
            ),
            ("hunter2", "the server returned an error"),
            ("WRONGPASS hunter2", "the server rejected the password"),
        ] {
            assert_eq!(server_error(error.as_bytes()).to_string(), wanted);
        }
    }
}

//! Probes PostgreSQL with a query.

use std::error::Error as _;
use std::future::poll_fn;
use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, Error, NoTls};
use tokio_util::task::AbortOnDropHandle;

use super::error::ProbeError;
use super::transport::{Stream, Transport};
use crate::config::DatabaseSettings;
use crate::identity::identity;

/// `SSLRequest`: its length and its code (PostgreSQL's protocol, section 55.7).
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
const PROTOCOL: &str = "PostgreSQL";

/// A client that keeps its connection between probes.
pub struct PostgresClient {
    settings: DatabaseSettings,
    transport: Transport,
    connection: Option<Connection>,
}

struct Connection {
    client: Client,
    /// Exchanges messages with the server.
    _driver: AbortOnDropHandle<()>,
}

impl PostgresClient {
    pub fn new(settings: DatabaseSettings) -> Self {
        Self {
            transport: Transport::new(settings.endpoint.clone()),
            settings,
            connection: None,
        }
    }

    /// Queries one row. Connects again if the kept connection was lost. Keeps the connection if the
    /// probe succeeds. The future may be dropped at any time.
    pub async fn probe(&mut self) -> Result<(), ProbeError> {
        if let Some(connection) = self.connection.take() {
            match self.query(connection).await {
                Err(ProbeError::ConnectionLost(_)) => {}
                result => return result,
            }
        }
        let stream = self.transport.connect().await?;
        let stream = self.encrypt(stream).await?;
        let connection = self.sign_in(stream).await?;
        self.query(connection).await
    }

    async fn query(&mut self, connection: Connection) -> Result<(), ProbeError> {
        let rows = connection.client.simple_query("SELECT 1").await;
        rows.map_err(|error| query_error(&error))?;
        self.connection = Some(connection);
        Ok(())
    }

    /// Negotiates TLS. `tokio_postgres` would do the same, but with its own check of the
    /// certificate's name.
    async fn encrypt(&mut self, mut stream: TcpStream) -> Result<Stream, ProbeError> {
        if self.transport.is_encrypted() {
            stream.write_all(&SSL_REQUEST).await?;
            match stream.read_u8().await? {
                b'S' => {}
                b'N' => return Err(ProbeError::TlsUnsupported),
                _ => return Err(ProbeError::WrongProtocol(PROTOCOL)),
            }
        }
        self.transport.encrypt(stream).await
    }

    async fn sign_in(&self, stream: Stream) -> Result<Connection, ProbeError> {
        let mut config = Config::new();
        // The stream is already encrypted.
        config
            .ssl_mode(SslMode::Disable)
            .application_name(format!("{} health", identity().command))
            .user(&self.settings.user)
            .dbname(&self.settings.name);
        if let Some(password) = &self.settings.password {
            config.password(password.expose());
        }
        let connected = config.connect_raw(stream, NoTls).await;
        let (client, mut connection) = connected.map_err(|error| self.sign_in_error(&error))?;
        // Awaiting the connection itself would log notices of the server.
        let drive = async move {
            while let Some(Ok(_)) = poll_fn(|cx| connection.poll_message(cx)).await {}
        };
        Ok(Connection {
            client,
            _driver: AbortOnDropHandle::new(tokio::spawn(drive)),
        })
    }

    fn sign_in_error(&self, error: &Error) -> ProbeError {
        // The only error of this kind that depends on the server. `tokio_postgres` has no typed
        // access to the kind.
        if self.settings.password.is_none()
            && error.to_string().starts_with("invalid configuration")
        {
            return ProbeError::PasswordRequired("DB_PASSWORD");
        }
        query_error(error)
    }
}

fn query_error(error: &Error) -> ProbeError {
    let source = error.source();
    let io = source.and_then(|source| source.downcast_ref::<io::Error>());
    match (error.code(), io) {
        (Some(state), _) => server_error(state),
        (None, Some(error)) => ProbeError::ConnectionLost(error.kind()),
        (None, None) if error.is_closed() => {
            ProbeError::ConnectionLost(io::ErrorKind::ConnectionReset)
        }
        (None, None) if error.to_string().starts_with("authentication error") => {
            ProbeError::Rejected(
                "the server requires an unsupported authentication method, or its own part of the authentication failed",
            )
        }
        (None, None) => ProbeError::WrongProtocol(PROTOCOL),
    }
}

fn server_error(state: &SqlState) -> ProbeError {
    if *state == SqlState::ADMIN_SHUTDOWN || *state == SqlState::CRASH_SHUTDOWN {
        // The server closed the connection; a new one may work.
        return ProbeError::ConnectionLost(io::ErrorKind::ConnectionAborted);
    }
    let known = [
        (
            SqlState::INVALID_PASSWORD,
            "the server rejected the password",
        ),
        (
            SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
            "the server rejected the user (see pg_hba.conf)",
        ),
        (
            SqlState::INVALID_CATALOG_NAME,
            "the database does not exist",
        ),
        (
            SqlState::INSUFFICIENT_PRIVILEGE,
            "the user has no permission to connect to the database",
        ),
        (
            SqlState::TOO_MANY_CONNECTIONS,
            "the server has too many connections",
        ),
        (
            SqlState::CANNOT_CONNECT_NOW,
            "the server is starting, stopping or recovering",
        ),
    ];
    let message = known.into_iter().find(|(known, _)| known == state);
    match message {
        Some((_, message)) => ProbeError::Rejected(message),
        None => error_code(state.code()),
    }
}

/// A code is five digits and capitals. Anything else is not shown.
fn error_code(code: &str) -> ProbeError {
    let is_code = code.len() == 5
        && code
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    if is_code {
        ProbeError::ErrorCode(code.to_owned())
    } else {
        ProbeError::WrongProtocol(PROTOCOL)
    }
}

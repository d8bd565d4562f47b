//! Whether PostgreSQL answers a query.

use std::error::Error as _;
use std::future::poll_fn;
use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, Error, NoTls};
use tokio_util::task::AbortOnDropHandle;

use super::failure::ProbeError;
use super::transport::{Stream, Transport};
use crate::config::DatabaseSettings;

/// "Do you speak TLS?": length and code of `SSLRequest` (PostgreSQL's protocol, section 55.7).
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
const PROTOCOL: &str = "PostgreSQL";

/// A client that keeps its connection.
pub struct PostgresClient {
    settings: DatabaseSettings,
    transport: Transport,
    connection: Option<Connection>,
}

struct Connection {
    client: Client,
    _connection: AbortOnDropHandle<()>,
}

impl PostgresClient {
    pub fn new(settings: DatabaseSettings) -> Self {
        Self {
            transport: Transport::new(settings.endpoint.clone()),
            settings,
            connection: None,
        }
    }

    pub fn disconnect(&mut self) {
        self.connection = None;
    }

    /// Asks for one row. A kept connection that broke meanwhile is made anew.
    pub async fn probe(&mut self) -> Result<(), ProbeError> {
        if let Some(session) = &self.connection {
            match session.query().await {
                Err(failure) if failure.is_connection_lost() => self.connection = None,
                answer => return answer,
            }
        }
        let stream = self.transport.connect().await?;
        let stream = self.encrypt(stream).await?;
        let session = self.sign_in(stream).await?;
        session.query().await?;
        self.connection = Some(session);
        Ok(())
    }

    /// As `tokio_postgres` would, but for whom the certificate has to be.
    async fn encrypt(&mut self, mut stream: TcpStream) -> Result<Stream, ProbeError> {
        if self.transport.is_encrypted() {
            let broken = |error: io::Error| ProbeError::connection_lost(&error);
            stream.write_all(&SSL_REQUEST).await.map_err(broken)?;
            match stream.read_u8().await.map_err(broken)? {
                b'S' => {}
                b'N' => return Err(ProbeError::TlsUnsupported),
                _ => return Err(ProbeError::WrongProtocol(PROTOCOL)),
            }
        }
        self.transport.encrypt(stream).await
    }

    async fn sign_in(&self, stream: Stream) -> Result<Connection, ProbeError> {
        let mut config = Config::new();
        // The stream is encrypted already.
        config
            .ssl_mode(SslMode::Disable)
            .application_name("fullon health")
            .user(&self.settings.user)
            .dbname(&self.settings.name);
        if let Some(password) = &self.settings.password {
            config.password(password.expose());
        }
        let connected = config.connect_raw(stream, NoTls).await;
        let (client, mut connection) = connected.map_err(|error| self.sign_in_error(&error))?;
        // Polled as a future it would log what the server notices.
        let drive = async move {
            while let Some(Ok(_)) = poll_fn(|cx| connection.poll_message(cx)).await {}
        };
        Ok(Connection {
            client,
            _connection: AbortOnDropHandle::new(tokio::spawn(drive)),
        })
    }

    fn sign_in_error(&self, error: &Error) -> ProbeError {
        let is_missing = self.settings.password.is_none();
        // The one thing of the configuration that the server has a say in.
        if is_missing && error.to_string().starts_with("invalid configuration") {
            return ProbeError::PasswordRequired("DB_PASSWORD");
        }
        query_error(error)
    }
}

impl Connection {
    async fn query(&self) -> Result<(), ProbeError> {
        let rows = self.client.simple_query("SELECT 1").await;
        rows.map(drop).map_err(|error| query_error(&error))
    }
}

fn query_error(error: &Error) -> ProbeError {
    let source = error.source();
    let io = source.and_then(|source| source.downcast_ref::<io::Error>());
    match (error.code(), io) {
        (Some(state), _) => server_error(state),
        (None, Some(error)) => ProbeError::connection_lost(error),
        (None, None) if error.is_closed() => {
            ProbeError::ConnectionLost(io::ErrorKind::ConnectionReset)
        }
        (None, None) if error.to_string().starts_with("authentication error") => {
            ProbeError::Rejected(
                "it asks for a kind of authentication that is not known here, or failed its own part of it",
            )
        }
        (None, None) => ProbeError::WrongProtocol(PROTOCOL),
    }
}

fn server_error(state: &SqlState) -> ProbeError {
    if *state == SqlState::ADMIN_SHUTDOWN || *state == SqlState::CRASH_SHUTDOWN {
        // It ended the connection, which may be all that it ended.
        return ProbeError::ConnectionLost(io::ErrorKind::ConnectionAborted);
    }
    let known = [
        (SqlState::INVALID_PASSWORD, "it refused the password"),
        (
            SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
            "it refused the user (pg_hba.conf says who may connect, and how)",
        ),
        (
            SqlState::INVALID_CATALOG_NAME,
            "it has no database of that name",
        ),
        (
            SqlState::INSUFFICIENT_PRIVILEGE,
            "the user may not connect to the database",
        ),
        (
            SqlState::TOO_MANY_CONNECTIONS,
            "it has too many connections",
        ),
        (SqlState::CANNOT_CONNECT_NOW, "it starts, stops or recovers"),
    ];
    let words = known.into_iter().find(|(known, _)| known == state);
    match words {
        Some((_, words)) => ProbeError::Rejected(words),
        None => error_code(state.code()),
    }
}

/// A code is five digits and capitals; anything else is not repeated.
fn error_code(code: &str) -> ProbeError {
    let is_one = code.len() == 5
        && code
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    if is_one {
        ProbeError::ErrorCode(code.to_owned())
    } else {
        ProbeError::WrongProtocol(PROTOCOL)
    }
}

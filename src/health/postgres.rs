//! Probes PostgreSQL with a query.

use std::error::Error as _;
use std::future::poll_fn;
use std::io;

use rustix::rand::{GetRandomFlags, getrandom};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, Error, NoTls, SimpleQueryMessage};
use tokio_util::task::AbortOnDropHandle;

use super::error::ProbeError;
use super::transport::{Stream, Transport};
use crate::config::{DatabaseSettings, SessionKind, TlsMode};
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

/// TLS in an attempt to connect.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Encryption {
    Never,
    IfSupported,
    Always,
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
        let shift = if self.settings.is_order_random {
            random_number()
        } else {
            0
        };
        let mut failure = None;
        for server in self.transport.order(shift) {
            self.transport.begin(server);
            match self.connect(server).await {
                Ok(connection) => {
                    self.transport.keep(server);
                    return self.query(connection).await;
                }
                Err(error) => {
                    // The error of a server that answers says more.
                    let is_better = failure.as_ref().is_none_or(|other: &ProbeError| {
                        other.is_unreachable() && !error.is_unreachable()
                    });
                    if is_better {
                        failure = Some(error);
                    }
                }
            }
        }
        Err(failure.unwrap_or(ProbeError::UnresolvedHost))
    }

    /// Whether the last probe ended in a TLS handshake.
    pub fn is_in_handshake(&self) -> bool {
        self.transport.is_in_handshake()
    }

    async fn query(&mut self, connection: Connection) -> Result<(), ProbeError> {
        let rows = connection.client.simple_query("SELECT 1").await;
        rows.map_err(|error| query_error(&error))?;
        self.connection = Some(connection);
        Ok(())
    }

    /// Connects to one server, with and without TLS in the order of libpq.
    async fn connect(&mut self, server: usize) -> Result<Connection, ProbeError> {
        let (first, second) = match self.transport.mode(server) {
            TlsMode::Off => (Encryption::Never, None),
            TlsMode::Allow => (Encryption::Never, Some(Encryption::Always)),
            TlsMode::Prefer => (Encryption::IfSupported, Some(Encryption::Never)),
            TlsMode::Unverified | TlsMode::VerifyAuthority(_) | TlsMode::Verified(_) => {
                (Encryption::Always, None)
            }
        };
        let error = match self.connect_once(server, first).await {
            Ok(connection) => return Ok(connection),
            Err(error) => error,
        };
        let Some(second) = second else {
            return Err(error);
        };
        match error {
            ProbeError::NotAdmitted => {
                let second = self.connect_once(server, second).await;
                second.map_err(|second| match second {
                    ProbeError::TlsUnsupported => error,
                    second => second,
                })
            }
            // Another attempt with TLS would fail as well.
            ProbeError::Tls(_) if second == Encryption::Never => {
                let second = self.connect_once(server, second).await;
                second.map_err(|second| match second {
                    ProbeError::NotAdmitted => error,
                    second => second,
                })
            }
            error => Err(error),
        }
    }

    async fn connect_once(
        &mut self,
        server: usize,
        encryption: Encryption,
    ) -> Result<Connection, ProbeError> {
        let mut stream = self.transport.connect(server).await?;
        if encryption != Encryption::Never {
            stream.write_all(&SSL_REQUEST).await?;
            stream = match stream.read_u8().await? {
                b'S' => self.transport.encrypt(server, stream).await?,
                b'N' if encryption == Encryption::IfSupported => stream,
                b'N' => return Err(ProbeError::TlsUnsupported),
                _ => return Err(ProbeError::WrongProtocol(PROTOCOL)),
            };
        }
        let connection = self.sign_in(stream).await?;
        self.check_session(&connection).await?;
        Ok(connection)
    }

    async fn sign_in(&self, stream: Stream) -> Result<Connection, ProbeError> {
        let settings = &self.settings;
        let mut config = Config::new();
        // The stream is already encrypted.
        config
            .ssl_mode(SslMode::Disable)
            .user(&settings.user)
            .dbname(&settings.name);
        match &settings.application_name {
            Some(name) => config.application_name(name),
            None => config.application_name(format!("{} health", identity().command)),
        };
        if let Some(options) = &settings.options {
            config.options(options);
        }
        if let Some(password) = &settings.password {
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

    /// Whether the server offers the kind of session that is wanted. Of several servers, only one
    /// may accept changes.
    async fn check_session(&self, connection: &Connection) -> Result<(), ProbeError> {
        let (unwanted, message) = match self.settings.session {
            SessionKind::Any => return Ok(()),
            SessionKind::ReadWrite => ("on", "the server is read-only"),
            SessionKind::ReadOnly => ("off", "the server is not read-only"),
        };
        let query = "SHOW transaction_read_only";
        let rows = connection.client.simple_query(query).await;
        let rows = rows.map_err(|error| query_error(&error))?;
        let is_unwanted = rows.iter().any(|message| match message {
            SimpleQueryMessage::Row(row) => row.try_get(0).is_ok_and(|it| it == Some(unwanted)),
            _ => false,
        });
        if is_unwanted {
            return Err(ProbeError::Rejected(message));
        }
        Ok(())
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

fn random_number() -> usize {
    let mut bytes = [0; size_of::<usize>()];
    // If this fails, the result is 0.
    let _ = getrandom(&mut bytes, GetRandomFlags::empty());
    usize::from_ne_bytes(bytes)
}

fn query_error(error: &Error) -> ProbeError {
    let source = error.source();
    let io = source.and_then(|source| source.downcast_ref::<io::Error>());
    match (error.code(), io) {
        (Some(state), _) => server_error(state),
        (None, Some(error)) => error.into(),
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
    if *state == SqlState::INVALID_AUTHORIZATION_SPECIFICATION {
        return ProbeError::NotAdmitted;
    }
    let known = [
        (
            SqlState::INVALID_PASSWORD,
            "the server rejected the password",
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

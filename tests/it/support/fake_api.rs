//! A program that listens in place of the admin API, and records all it receives.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use fullon_master_api::config::Secret;
use nix::unistd::{Uid, setfsuid};
use serde_json::{Value, json};

use super::jwt;

/// Listens until the test program exits.
pub struct FakeApi {
    address: SocketAddr,
    received: Arc<Mutex<Vec<u8>>>,
    connections: Arc<Mutex<usize>>,
}

/// How connections are answered.
#[derive(Clone)]
enum Behaviour {
    /// Answers every request with this body, and a proof with this key.
    Answer { key: String, body: String },
    /// Relays to this address.
    Relay(String),
}

impl FakeApi {
    /// Answers every request with `body`, and proves that it has `key`.
    pub fn start(key: &Secret, body: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self::serve(
            listener,
            Behaviour::Answer {
                key: key.expose().to_owned(),
                body: body.to_owned(),
            },
        )
    }

    /// Relays to `target`, as a tunnel does.
    pub fn relay_to(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self::serve(listener, Behaviour::Relay(target.to_owned()))
    }

    /// Listens at a port as another user: the socket belongs to it.
    pub fn start_as(user: u32, port: u16, body: &str) -> Self {
        let body = body.to_owned();
        // The user of a file system access, and of a socket, is that of a thread.
        let listener = thread::spawn(move || {
            setfsuid(Uid::from_raw(user));
            TcpListener::bind(("127.0.0.1", port)).unwrap()
        });
        Self::serve(
            listener.join().unwrap(),
            Behaviour::Answer {
                key: "0".repeat(32),
                body,
            },
        )
    }

    fn serve(listener: TcpListener, behaviour: Behaviour) -> Self {
        let address = listener.local_addr().unwrap();
        let received = Arc::<Mutex<Vec<u8>>>::default();
        let connections = Arc::<Mutex<usize>>::default();
        let (record, count) = (Arc::clone(&received), Arc::clone(&connections));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                *count.lock().unwrap() += 1;
                let (record, behaviour) = (Arc::clone(&record), behaviour.clone());
                thread::spawn(move || {
                    // The client may close the connection at any time.
                    drop(match behaviour {
                        Behaviour::Answer { key, body } => answer(&stream, &key, &body, &record),
                        Behaviour::Relay(target) => relay(&stream, &target, &record),
                    });
                });
            }
        });
        Self {
            address,
            received,
            connections,
        }
    }

    pub fn address(&self) -> String {
        self.address.to_string()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All bytes that it received.
    pub fn received(&self) -> String {
        String::from_utf8_lossy(&self.received.lock().unwrap()).into_owned()
    }

    /// The number of connections that it accepted.
    pub fn connections(&self) -> usize {
        *self.connections.lock().unwrap()
    }

    /// The tokens that it received.
    pub fn tokens(&self) -> Vec<String> {
        let received = self.received();
        let lines = received.lines();
        lines
            .filter_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("authorization")
                    .then(|| value.trim_start_matches("Bearer ").trim().to_owned())
            })
            .collect()
    }
}

/// The MAC of one side: HMAC(HMAC(key, "fullon proof 1"), side, nonce and request).
pub fn proof(key: &str, side: &str, nonce: &str, request: &str) -> String {
    let derived = jwt::hs256(key, "fullon proof 1");
    jwt::encode_part(jwt::hs256(derived, &format!("{side}\n{nonce}\n{request}")))
}

fn answer(
    mut stream: &TcpStream,
    key: &str,
    body: &str,
    record: &Mutex<Vec<u8>>,
) -> std::io::Result<()> {
    let mut request = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        record.lock().unwrap().extend(&buffer[..length]);
        request.extend(&buffer[..length]);
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some((head, content)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let expected = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.parse::<usize>().unwrap())
        });
        if content.len() < expected.unwrap_or(0) {
            continue;
        }
        let body = if head.starts_with("POST /admin/proof ") {
            let proof_request: Value = serde_json::from_str(content).unwrap();
            let field = |name: &str| proof_request[name].as_str().unwrap();
            json!({ "mac": proof(key, "daemon", field("nonce"), field("req")) }).to_string()
        } else {
            body.to_owned()
        };
        let length = body.len();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )?;
        return stream.shutdown(Shutdown::Write);
    }
}

fn relay(mut client: &TcpStream, target: &str, record: &Mutex<Vec<u8>>) -> std::io::Result<()> {
    let mut server = TcpStream::connect(target)?;
    let (mut back, mut reader) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || {
        let _ = std::io::copy(&mut reader, &mut back);
        let _ = back.shutdown(Shutdown::Write);
    });
    let mut buffer = [0; 4096];
    loop {
        let length = client.read(&mut buffer)?;
        if length == 0 {
            return server.shutdown(Shutdown::Write);
        }
        record.lock().unwrap().extend(&buffer[..length]);
        server.write_all(&buffer[..length])?;
    }
}

//! A client that exchanges texts over RFC 6455.

use super::{Connection, Response};

/// The key and its proof, from section 1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

const FINAL: u8 = 0x80;
const TEXT: u8 = 0x01;
const MASKED: u8 = 0x80;
/// Two more bytes have the length.
const LENGTH_16: u8 = 0x7e;

pub struct WebSocket(Connection);

impl WebSocket {
    #[track_caller]
    pub fn open(host: &str, path: &str) -> Self {
        let mut connection = Connection::open(host);
        let headers = [
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", KEY),
        ];
        connection.send("GET", path, &headers, "");
        let answer: Response = connection.read_head();
        assert_eq!(answer.status, 101, "{answer:#?}");
        assert_eq!(answer.header("sec-websocket-accept"), Some(ACCEPT));
        Self(connection)
    }

    /// Sends a text of less than 64 KiB.
    pub fn send(&mut self, text: &str) {
        let mut frame = vec![FINAL | TEXT];
        match u8::try_from(text.len()) {
            Ok(length) if length < LENGTH_16 => frame.push(MASKED | length),
            _ => {
                frame.push(MASKED | LENGTH_16);
                frame.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
            }
        }
        // A mask of zeros leaves the text as it is.
        frame.extend([0; 4]);
        frame.extend(text.as_bytes());
        self.0.send_bytes(&frame);
    }

    /// Reads one text.
    #[track_caller]
    pub fn receive(&mut self) -> String {
        let head = self.0.read_bytes(2);
        assert_eq!(head[0], FINAL | TEXT, "{head:?}");
        let length = match head[1] {
            LENGTH_16 => u16::from_be_bytes(self.0.read_bytes(2).try_into().unwrap()).into(),
            length => usize::from(length),
        };
        self.0.read_text(length)
    }

    /// Waits until the server ends the connection.
    pub fn wait_for_end(mut self) {
        self.0.read_rest();
    }
}

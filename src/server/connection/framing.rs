//! Finds requests with both Transfer-Encoding and Content-Length. hyper follows the first and hides
//! the second, but a program in front of the daemon may have followed the second.

use crate::server::pool::FramingFields;

/// The framing fields in this part of a request's headers. A field that a client has split into two
/// packets is not found: then hyper closes the connection after the request, which is safe, too.
pub fn framing_fields(bytes: &[u8]) -> FramingFields {
    let mut fields = FramingFields::default();
    for newline in memchr::memchr_iter(b'\n', bytes) {
        let line = &bytes[newline + 1..];
        match line.first() {
            Some(b't' | b'T') => fields.transfer_encoding |= is_field(line, b"transfer-encoding:"),
            Some(b'c' | b'C') => fields.content_length |= is_field(line, b"content-length:"),
            // The end of the headers.
            Some(b'\r' | b'\n') => break,
            _ => {}
        }
    }
    fields
}

fn is_field(line: &[u8], name: &[u8]) -> bool {
    line.get(..name.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_fields_of_the_headers_are_found() {
        for (text, transfer_encoding, content_length) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", false, false),
            (
                "POST / HTTP/1.1\r\nTRANSFER-encoding: chunked\r\nContent-Length: 1\r\n\r\n",
                true,
                true,
            ),
            (
                "POST / HTTP/1.1\ncontent-length: 1\ntransfer-encoding:chunked",
                true,
                true,
            ),
            (
                "POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nx\r\nTransfer-Encoding: chunked\r\n",
                false,
                true,
            ),
            (
                "GET /\ttransfer-encoding: HTTP/1.1\r\nX: content-length: 1\r\nContent-Length-X: 1\r\n",
                false,
                false,
            ),
            ("x: y\r\nContent-Len", false, false),
            ("", false, false),
        ] {
            let expected = FramingFields {
                transfer_encoding,
                content_length,
            };
            assert_eq!(framing_fields(text.as_bytes()), expected, "{text}");
        }
    }
}

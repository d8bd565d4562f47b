//! Fuzz target of replies from Redis.

#![expect(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "a broken promise has to panic"
)]

use futures_util::FutureExt as _;

use super::redis::expect_reply;

/// The reply of Redis to a `PING`: one line. An error quotes nothing of it, and nothing after it is
/// read.
pub fn redis_reply(bytes: &[u8]) {
    // All bytes are there, so the future is ready at once.
    let reply = |mut bytes: &[u8]| {
        let answer = expect_reply(&mut bytes, "+PONG").now_or_never();
        let text = answer.unwrap().map_err(|failure| failure.to_string());
        (text, bytes.len())
    };
    let (answer, unread) = reply(bytes);
    assert_eq!(answer.is_ok(), bytes.starts_with(b"+PONG\r\n"));
    let end = bytes.windows(2).position(|pair| pair == b"\r\n");
    let line = end.map_or(bytes, |end| &bytes[..end + 2]);
    assert!(bytes.len() - unread <= line.len());
    let Err(text) = answer else {
        return;
    };
    // Only the first word of an error matters, except for `-ERR`, where the text does.
    if let Some(error) = line.strip_suffix(b"\r\n")
        && error.starts_with(b"-")
        && !error.starts_with(b"-ERR ")
        && error.len() <= 1000
    {
        let word = error.split(|byte| *byte == b' ').next().unwrap();
        let (alone, _) = reply(&[word, b"\r\n"].concat());
        assert_eq!(alone, Err(text.clone()));
    }
    assert!(text.len() < 100 && text.is_ascii(), "{text}");
}

//! Request ids. Ours are in responses, log and audit trail. A client's own `X-Request-Id` is logged
//! beside it: a client could send one that looks like ours.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use crate::auth::contains_token;

pub static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// A longer id from a client is ignored.
const MAX_REQUEST_ID_LEN: usize = 128;

/// The id that a client sent, if it is harmless in a log, and no token.
pub fn client_request_id(headers: &HeaderMap) -> Option<HeaderValue> {
    let id = headers.get(&REQUEST_ID)?;
    let is_harmless = (1..=MAX_REQUEST_ID_LEN).contains(&id.len())
        && id
            .as_bytes()
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.:+/=".contains(b));
    let has_token = id.to_str().is_ok_and(contains_token);
    (is_harmless && !has_token).then(|| id.clone())
}

/// Generates the ids of one server: a prefix that differs in each process, and a counter.
pub struct RequestIds {
    prefix: String,
    count: AtomicU64,
}

impl RequestIds {
    pub fn new() -> Self {
        let process = uuid::Uuid::new_v4().simple().to_string();
        Self {
            prefix: process[..8].to_owned(),
            count: AtomicU64::new(1),
        }
    }

    /// A new id. It is formatted by hand: `format!` and its allocations took 3 % of the time of
    /// `/health`.
    pub fn next(&self) -> HeaderValue {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let width = (u64::BITS - number.leading_zeros()).div_ceil(4).max(8);
        let mut id = Vec::with_capacity(self.prefix.len() + 1 + width as usize);
        id.extend_from_slice(self.prefix.as_bytes());
        id.push(b'-');
        id.extend(
            (0..width)
                .rev()
                .map(|digit| DIGITS[(number >> (4 * digit) & 0xf) as usize]),
        );
        HeaderValue::from_maybe_shared(Bytes::from(id))
            .unwrap_or_else(|_| HeaderValue::from_static("-"))
    }

    /// Whether this server has generated the id.
    pub fn is_own(&self, id: &HeaderValue) -> bool {
        let id = id.to_str().unwrap_or_default();
        id.strip_prefix(&*self.prefix)
            .is_some_and(|rest| rest.starts_with('-'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_counted_in_hexadecimal() {
        let ids = RequestIds::new();
        for (number, expected) in [
            (1, "00000001"),
            (0xfedc_ba98, "fedcba98"),
            (0x1_0000_0000, "100000000"),
            (u64::MAX, "ffffffffffffffff"),
        ] {
            ids.count.store(number, Ordering::Relaxed);
            let id = ids.next();
            assert_eq!(id, format!("{}-{expected}", ids.prefix));
            assert!(ids.is_own(&id));
        }
        assert!(!ids.is_own(&RequestIds::new().next()));
    }
}

//! Trace context (W3C): each request has a trace id, so that the application's spans belong together.

use std::sync::atomic::{AtomicU64, Ordering};

use hyper::header::{HeaderName, HeaderValue};

pub static TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
pub static TRACE_STATE: HeaderName = HeaderName::from_static("tracestate");

/// The length of `00-TRACE-PARENT-FLAGS`.
const LENGTH: usize = 55;

/// Generates trace ids: numbers that differ in each process and look random. Unlike those of the
/// system's random source, they cost no system call.
pub struct TraceIds {
    seeds: [u64; 3],
    count: AtomicU64,
}

impl TraceIds {
    pub fn new() -> Self {
        let (first, second) = uuid::Uuid::new_v4().as_u64_pair();
        let (third, _) = uuid::Uuid::new_v4().as_u64_pair();
        Self {
            seeds: [first, second, third],
            count: AtomicU64::new(0),
        }
    }

    /// The `traceparent` of a new trace. It is sampled: otherwise the application would record none.
    pub fn next(&self) -> HeaderValue {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let mut value = *b"00-00000000000000000000000000000000-0000000000000000-01";
        let [high, low, parent] = self.seeds.map(|seed| mix(seed, count));
        write_hex(&mut value[3..19], high);
        write_hex(&mut value[19..35], low);
        write_hex(&mut value[36..52], parent);
        HeaderValue::from_bytes(&value).unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

/// A number of splitmix64: each seed and count give another, and never zero.
fn mix(seed: u64, count: u64) -> u64 {
    let mut mixed = seed.wrapping_add(count.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed ^ mixed >> 31).max(1)
}

fn write_hex(digits: &mut [u8], number: u64) {
    for (digit, shift) in digits.iter_mut().rev().zip((0..u64::BITS).step_by(4)) {
        *digit = b"0123456789abcdef"[(number >> shift & 0xf) as usize];
    }
}

/// Whether a `traceparent` has the form of version 00.
pub fn is_trace_parent(value: &HeaderValue) -> bool {
    let value = value.as_bytes();
    let is_hex = |part: &[u8]| {
        part.iter()
            .all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_id = |part: &[u8]| is_hex(part) && part.iter().any(|digit| *digit != b'0');
    value.len() == LENGTH
        && value.starts_with(b"00-")
        && value[35] == b'-'
        && value[52] == b'-'
        && is_id(&value[3..35])
        && is_id(&value[36..52])
        && is_hex(&value[53..])
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn trace_ids_differ() {
        let [ids, others] = [TraceIds::new(), TraceIds::new()];
        let all: HashSet<_> = (0..1000)
            .flat_map(|_| [ids.next(), others.next()])
            .collect();
        assert_eq!(all.len(), 2000);
        assert!(all.iter().all(is_trace_parent));
    }

    #[test]
    fn trace_parent_has_the_form_of_the_specification() {
        let valid = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
        assert!(is_trace_parent(&HeaderValue::from_static(valid)));
        for (from, to) in [
            ("00-0", "01-0"),
            (
                "0af7651916cd43dd8448eb211c80319c",
                "00000000000000000000000000000000",
            ),
            ("b7ad6b7169203331", "0000000000000000"),
            ("-00", "-0"),
            ("c-b", "c b"),
            ("af", "AF"),
            ("-00", "-00-x"),
        ] {
            let invalid = HeaderValue::try_from(valid.replacen(from, to, 1)).unwrap();
            assert!(!is_trace_parent(&invalid), "{invalid:?}");
        }
    }
}
